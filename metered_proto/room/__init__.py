"""A room: a channel of the relay in which every member is a peer. See `metered_proto.room.room`."""
