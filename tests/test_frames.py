"""Few of our functions stand between a call of the public API and the work."""

from benchmarks.frames import GOALS, measure


def test_frames_when_counted_are_at_most_the_goals():
    frames = measure()
    assert {name: len(stack) <= GOALS[name] for name, stack in frames.items()} == dict.fromkeys(
        GOALS, True
    ), frames
