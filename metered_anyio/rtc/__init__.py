"""Real peer connections behind the orders of a room. aiortc and av are imported only below here, when one is made."""
