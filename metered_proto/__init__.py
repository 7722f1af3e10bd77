"""The sans-IO core: pure state machines for the realtime protocol, its clients and its relay."""
