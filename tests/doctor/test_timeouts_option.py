"""`--timeouts`: what is told, and what is run."""

import click
import pytest

from chaos.cli.answers import answering
from chaos.cli.timeouts import TIMEOUTS, fitted
from chaos.readiness import Readiness
from chaos.scenario import load_scenario
from testbed.base.errors import UsageError

QUICK = Readiness(0.001, 0.001, 1.0, ())
SLOW = Readiness(0.15, 0.05, 2.5, ("election_timeout: 1 s is less than the 2.5 s that this machine needs",))


@pytest.fixture
def attempt(monkeypatch, tmp_path, capsys):
    """Fits a scenario on such a machine; what is to be run, and what was said on stderr."""
    path = tmp_path / "mine.toml"
    path.write_text('duration = "10s"\n[cluster]\nheartbeat = "100ms"\nelection_timeout = "1s"\n')
    asked = []

    def carry_out(machine, *arguments, world="live", out=str(tmp_path)):
        def assess(*timeouts_and_place):
            asked.append(timeouts_and_place)
            if isinstance(machine, OSError):
                raise machine
            return machine

        monkeypatch.setattr("chaos.cli.timeouts.assess", assess)
        results = []

        @click.command()
        @TIMEOUTS
        @answering
        def command(answer, timeouts):
            results.append(fitted(answer, load_scenario(path), timeouts, world=world, out=out))
            return 0

        command.main([*arguments], standalone_mode=False)
        told = capsys.readouterr()
        assert told.out == ""
        assert all(len(line) <= 80 for line in told.err.splitlines())
        return results[0], told.err

    carry_out.asked = asked
    return carry_out


def test_on_a_quick_machine_nothing_is_said_or_changed(attempt):
    for arguments in ([], ["--timeouts", "auto"]):
        scenario, said = attempt(QUICK, *arguments)
        assert (scenario.cluster.election_timeout, said) == (1.0, "")


def test_a_slow_machine_is_told_so_before_the_run_which_stays_as_it_is_written(attempt):
    scenario, said = attempt(SLOW)
    assert scenario.cluster.election_timeout == 1.0
    assert "2.5 s that this machine" in said
    assert "--timeouts auto" in said


def test_auto_scales_by_what_the_machine_needs_and_says_so(attempt):
    scenario, said = attempt(SLOW, "--timeouts", "auto")
    assert (scenario.cluster.heartbeat, scenario.cluster.election_timeout) == (0.25, 2.5)
    assert 'election_timeout = "2500ms"' in scenario.text
    assert "multiplied by 2.5" in said


def test_a_number_scales_without_a_look_at_the_machine(attempt):
    for world in ("live", "sim"):
        scenario, said = attempt(SLOW, "--timeouts", "3", world=world)
        assert (scenario.cluster.election_timeout, said) == (3.0, "")
    assert attempt.asked == []


def test_virtual_time_is_never_late(attempt):
    for word in ("auto", "scenario"):
        scenario, said = attempt(SLOW, "--timeouts", word, world="sim")
        assert (scenario.cluster.election_timeout, said) == (1.0, "")
    assert attempt.asked == []


def test_the_machine_is_measured_where_the_run_will_be_kept(attempt, tmp_path):
    attempt(QUICK, out=str(tmp_path / "still" / "to" / "be" / "made"))
    assert attempt.asked == [(0.1, 1.0, tmp_path)]


def test_a_place_where_nothing_can_be_written_is_the_callers_mistake(attempt):
    with pytest.raises(UsageError, match="--out"):
        attempt(PermissionError(13, "Permission denied"))


@pytest.mark.parametrize("text", ["fast", "0.5", "0", "-1", "21", "nan", "inf", ""])
def test_other_words_and_numbers_out_of_bounds_are_mistakes(attempt, text):
    with pytest.raises(click.UsageError):
        attempt(QUICK, "--timeouts", text)
