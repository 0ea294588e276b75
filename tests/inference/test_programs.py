"""How compiled programs are run."""

from __future__ import annotations

import contextlib
import os

import scipy.linalg  # noqa: F401  # its LAPACK is JAX's
from threadpoolctl import threadpool_info, threadpool_limits

from bnnzoo.inference.programs import side_by_side
from bnnzoo.reports.study_workers import _take_share, executor


def threads():
    """Of every LAPACK that is loaded."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_lapack_takes_one_thread_until_the_last_of_several_contexts_ends():
    with threadpool_limits(2, user_api="blas"):
        with side_by_side(False):
            assert threads() == {2}
        first, second = side_by_side(), side_by_side()
        first.__enter__()
        second.__enter__()
        assert threads() == {1}
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {2}
        with contextlib.suppress(ValueError), side_by_side():
            raise ValueError
        assert threads() == {2}


def test_workers_share_the_cores_and_take_no_more_than_they_were_given():
    with threadpool_limits(4, user_api="blas"):
        _take_share(2)
        assert threads() == {2}
        _take_share(3)
        assert threads() == {2}


def test_a_worker_begins_with_its_share():
    with executor(2, None)() as pool:
        found = pool.submit(threads).result()
    assert max(found) <= max(1, (os.cpu_count() or 1) // 2)
