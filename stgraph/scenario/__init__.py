"""What happens to the traffic if a street is closed, a bridge is built, a stadium fills.

A scenario is a list of operations on a road network, with times. `stgraph.scenario.script` has the
language, `editing` what it does to a network, `assignment` and its neighbours what that does to the
traffic, and `result` what comes out.
"""
