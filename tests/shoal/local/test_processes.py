import signal

from shoal.local.processes import handle_signals


def test_under_nohup_the_end_of_the_terminal_is_ignored() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        handle_signals(signal.default_int_handler)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        handle_signals(signal.default_int_handler)
        assert signal.getsignal(signal.SIGHUP) == signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
