"""The bundled model, and what a person should know of its answers."""

BUNDLED = "skilldeck-tiny"
SHORT = f"{BUNDLED} is a demonstration model"
CLI = f"({SHORT}; load a larger one: skilldeck models load PATH-OR-ID)"
CHAT = f"{SHORT}: load a larger one for real work, ctrl+l."
DAEMON = (
    f"{BUNDLED} is a small demonstration model: it shows that everything works. Load a larger one for real work: o."
)
