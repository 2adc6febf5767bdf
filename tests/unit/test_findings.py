"""What of an import is said to be broken by a fork, by what there is before it and after it."""

import pytest

from clusterd.template.findings import Descriptor, Inventory, Thread, broken

pytestmark = pytest.mark.engine_independent

SENDER = Thread("sender-1", "sender-")
SOCKET = Descriptor(7, (8, 1234), "descriptor 7 is a socket connected to ('127.0.0.1', 80)")


def test_a_thread_that_is_begun_anew_is_no_finding() -> None:
    assert broken(Inventory((SENDER,)), Inventory((Thread("sender-2", "sender-"),))) == []


def test_a_thread_that_is_not_begun_anew_is_named() -> None:
    assert broken(Inventory((SENDER,)), Inventory()) == ["thread 'sender-1' is running"]
    assert broken(Inventory((SENDER,)), Inventory((Thread("other", "other"),))) == ["thread 'sender-1' is running"]


def test_of_two_threads_of_a_kind_each_has_to_be_begun_anew() -> None:
    assert broken(Inventory((SENDER, SENDER)), Inventory((SENDER,))) == ["thread 'sender-1' is running"]


def test_a_descriptor_that_is_closed_or_another_file_is_no_finding() -> None:
    assert broken(Inventory((), (SOCKET,)), Inventory()) == []
    replaced = Descriptor(7, (8, 1235), SOCKET.description)
    assert broken(Inventory((), (SOCKET,)), Inventory((), (replaced,))) == []


def test_a_descriptor_that_both_processes_have_is_described() -> None:
    assert broken(Inventory((), (SOCKET,)), Inventory((), (SOCKET,))) == [SOCKET.description]


def test_a_library_that_begins_its_thread_when_it_has_something_to_do_is_known() -> None:
    assert broken(Inventory((Thread("sentry-sdk.BackgroundWorker", "sentry"),)), Inventory()) == []


def test_a_library_that_does_not_survive_is_named_whatever_is_begun_anew() -> None:
    core = Thread("grpc_global_tim", "grpc_global_tim")
    assert broken(Inventory((core,)), Inventory((core,))) == ["thread 'grpc_global_tim' is running (gRPC)"]
