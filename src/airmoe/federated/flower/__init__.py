"""Federated training over Flower: the server reaches clients that are processes on machines of their own.

    server   a ServerApp that Flower's SuperLink starts      engine.FlowerEngine brings messages over its Grid
    client   a SuperNode, and beside it a resident process   node.ResidentNode takes the steps

A client's process stays from message to message, so a round does not pay for imports. It computes nothing but
its own steps: code that comes with a run is not executed. `airmoe.federated.flower.keys` makes certificates
and keys, `superlink` starts a SuperLink whose interfaces are closed, `lab` starts all of it on one machine.

Needs the extra ``airmoe[flower]``.
"""
