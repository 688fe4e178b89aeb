"""The model: a small Llama, in plain torch for training, named on export as Hugging Face names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Dimensions. The rotary base is high so that matching by content holds over the whole context."""

    vocab: int = 2048
    width: int = 320
    layers: int = 6
    heads: int = 4
    head: int = 64
    inner: int = 192
    theta: float = 1e7
    context: int = 4096
    eps: float = 1e-6

    def hugging_face(self) -> dict[str, Any]:
        """config.json. `rope_theta` stands at the top level too: exllamav2 reads it only there."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "head_dim": self.head,
            "hidden_act": "silu",
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.theta},
            "tie_word_embeddings": True,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "initializer_range": 0.02,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "torch_dtype": "bfloat16",
        }


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions for x [batch, heads, time, head]; the two halves of a head form the pairs."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
    """Attention and gated feed-forward, each behind an RMS norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        inside = config.heads * config.head
        self.norm1 = nn.Parameter(torch.ones(config.width))
        self.norm2 = nn.Parameter(torch.ones(config.width))
        self.qkv = nn.Parameter(torch.empty(3, inside, config.width))
        self.out = nn.Parameter(torch.zeros(config.width, inside))
        self.gate = nn.Parameter(torch.empty(config.inner, config.width))
        self.up = nn.Parameter(torch.empty(config.inner, config.width))
        self.down = nn.Parameter(torch.zeros(config.width, config.inner))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        c = self.config
        batch, time, _ = x.shape
        h = F.rms_norm(x, (c.width,), self.norm1, c.eps)
        qkv = F.linear(h, self.qkv.flatten(0, 1)).view(batch, time, 3, c.heads, c.head).permute(2, 0, 3, 1, 4)
        q, k = rotate(qkv[:2], cos, sin).unbind(0)
        a = F.scaled_dot_product_attention(q, k, qkv[2], is_causal=True)
        x = x + F.linear(a.transpose(1, 2).reshape(batch, time, c.heads * c.head), self.out)
        h = F.rms_norm(x, (c.width,), self.norm2, c.eps)
        return x + F.linear(F.silu(F.linear(h, self.gate)) * F.linear(h, self.up), self.down)


class TinyLM(nn.Module):
    """Token ids [batch, time] to hidden states [batch, time, width]; logits are taken where they are needed."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Parameter(torch.zeros(config.vocab, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.Parameter(torch.ones(config.width))
        frequency = 1.0 / config.theta ** (torch.arange(0, config.head, 2).float() / config.head)
        angle = torch.outer(torch.arange(config.context).float(), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        for block in self.each_block():
            for weight in (block.qkv, block.gate, block.up):
                nn.init.normal_(weight, std=0.4 * config.width**-0.5, generator=generator)

    def each_block(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def hidden(self, ids: Tensor, layers: int | None = None) -> Tensor:
        """The residual stream after `layers` blocks (all, then normalised, by default)."""
        x = F.embedding(ids, self.embed)
        cos, sin = self.cos[: ids.size(1)], self.sin[: ids.size(1)]
        if torch.is_autocast_enabled(x.device.type):  # else every rotated product would be float32 again
            dtype = torch.get_autocast_dtype(x.device.type)
            cos, sin = cos.to(dtype), sin.to(dtype)
        for block in self.each_block()[:layers]:
            x = block(x, cos, sin)
        return F.rms_norm(x, (self.config.width,), self.norm, self.config.eps) if layers is None else x

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.embed)

    @torch.no_grad()
    def complete(self, ids: Sequence[int], limit: int, stop: int) -> list[int]:
        """Greedy continuation of `ids`, at most `limit` tokens, without the stop token. No cache: for tests."""
        tokens = list(ids)
        while len(tokens) < len(ids) + limit:
            best = int(self.logits(self.hidden(torch.tensor([tokens]))[0, -1]).argmax())
            if best == stop:
                break
            tokens.append(best)
        return tokens[len(ids) :]


def hugging_face_weights(model: TinyLM) -> dict[str, Tensor]:
    """bfloat16 tensors under the names of `LlamaForCausalLM`."""
    weights: dict[str, Tensor] = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    for i, block in enumerate(model.each_block()):
        base = f"model.layers.{i}."
        for kind, weight in zip("qkv", block.qkv, strict=True):
            weights[f"{base}self_attn.{kind}_proj.weight"] = weight
        weights |= {
            f"{base}self_attn.o_proj.weight": block.out,
            f"{base}mlp.gate_proj.weight": block.gate,
            f"{base}mlp.up_proj.weight": block.up,
            f"{base}mlp.down_proj.weight": block.down,
            f"{base}input_layernorm.weight": block.norm1,
            f"{base}post_attention_layernorm.weight": block.norm2,
        }
    return {name: weight.detach().to(torch.bfloat16).contiguous() for name, weight in weights.items()}


def from_hugging_face(weights: Mapping[str, Tensor], config: Config) -> TinyLM:
    """The model that `hugging_face_weights` named, in float32."""
    model = TinyLM(config)
    named = {name: weight.float() for name, weight in weights.items()}
    with torch.no_grad():
        model.embed.copy_(named["model.embed_tokens.weight"])
        model.norm.copy_(named["model.norm.weight"])
        for i, block in enumerate(model.each_block()):
            base = f"model.layers.{i}."
            block.qkv.copy_(torch.stack([named[f"{base}self_attn.{kind}_proj.weight"] for kind in "qkv"]))
            block.out.copy_(named[f"{base}self_attn.o_proj.weight"])
            block.gate.copy_(named[f"{base}mlp.gate_proj.weight"])
            block.up.copy_(named[f"{base}mlp.up_proj.weight"])
            block.down.copy_(named[f"{base}mlp.down_proj.weight"])
            block.norm1.copy_(named[f"{base}input_layernorm.weight"])
            block.norm2.copy_(named[f"{base}post_attention_layernorm.weight"])
    return model


def checkpoint(model: TinyLM) -> dict[str, Any]:
    return {"config": asdict(model.config), "weights": model.state_dict()}


def restore(saved: dict[str, Any]) -> TinyLM:
    model = TinyLM(Config(**saved["config"]))
    model.load_state_dict(saved["weights"])
    return model
