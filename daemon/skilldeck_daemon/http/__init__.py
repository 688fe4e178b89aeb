"""The HTTP surface: the gate, bodies and errors here, each dialect and the kept objects in a folder of its own."""
