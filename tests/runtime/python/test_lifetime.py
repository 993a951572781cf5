"""Models in threads, processes, with blocks and pickles."""

import gc
import importlib.metadata
import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import QBIN

import vitrun

LIMIT = 120  # seconds after which a child counts as hanging


def test_what_a_model_says_about_itself(model):
    assert (model.name, model.width, model.height, model.classes) == ("vit_cifar10", 32, 32, 10)
    assert model.labels[8] == "ship" and len(model.labels) == 10
    assert dict(model.outputs) == {"logits": (10,), "embedding": (128,), "features": (65, 128)}
    assert model.file_bytes == QBIN.stat().st_size and model.path == str(QBIN)
    assert model.metadata("preprocess.mean") == "0.5 0.5 0.5" and model.metadata("nothing") is None
    assert "vit_cifar10, 32 x 32, 10 classes" in repr(model)
    assert vitrun.__version__ == importlib.metadata.version("vitrun")
    assert vitrun.isa_names()[-1] == "scalar"


@pytest.mark.parametrize("threads", [1, 2])
def test_eight_threads_share_a_model(normalised, threads):
    with vitrun.Model(QBIN, threads=threads) as model:
        wanted = model.run(normalised, ["logits", "features"])
        start = threading.Barrier(8)

        def work(_):
            start.wait()
            return [model.run(normalised, ["logits", "features"]) for _ in range(5)]

        with ThreadPoolExecutor(8) as pool:
            for results in pool.map(work, range(8)):
                for result in results:
                    np.testing.assert_array_equal(result["logits"], wanted["logits"])
                    np.testing.assert_array_equal(result["features"], wanted["features"])


def test_a_closed_model_says_so(normalised):
    model = vitrun.Model(QBIN)
    with model as same:
        assert same is model
        labels = model.labels
    model.close()
    for use in (lambda: model.predict(normalised), lambda: model.metadata("labels"), lambda: pickle.dumps(model)):
        with pytest.raises(vitrun.Error, match="vit.qbin: the model is closed"):
            use()
    assert model.labels == labels and "closed" in repr(model)


def test_closing_while_threads_run_lets_their_calls_end(normalised):
    for _ in range(10):
        model = vitrun.Model(QBIN, threads=2)
        wanted = model.logits(normalised)
        started = threading.Barrier(5)

        def work(model=model, started=started):
            started.wait()
            answers = []
            try:
                for _ in range(50):
                    answers.append(model.logits(normalised))
            except vitrun.Error as error:
                assert "closed" in str(error)
            return answers

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(work) for _ in range(4)]
            started.wait()
            model.close()
            for answer in (a for future in running for a in future.result()):
                np.testing.assert_array_equal(answer, wanted)


def threads_now():
    return set(os.listdir("/proc/self/task"))


def gone(threads):
    """Whether none of these exists; a joined thread is listed for a moment longer."""
    end = time.monotonic() + LIMIT
    while threads & threads_now() and time.monotonic() < end:
        time.sleep(0.01)
    return not threads & threads_now()


def mapped(path):
    return str(path) in pathlib.Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("end", ["close", "collect"])
def test_nothing_is_left_of_a_model(tmp_path, normalised, end):
    path = tmp_path / "copy.qbin"
    path.write_bytes(QBIN.read_bytes())
    before = threads_now()
    model = vitrun.Model(path, threads=4)
    model.predict(normalised)
    own = threads_now() - before
    assert mapped(path) and len(own) == 3
    if end == "close":
        model.close()
    else:
        cycle = [model]
        cycle.append(cycle)
        del model, cycle
        gc.collect()
    assert not mapped(path) and gone(own)


def test_a_pickle_opens_the_file_again(model, normalised, monkeypatch, tmp_path):
    other = vitrun.Model(os.path.relpath(QBIN), threads=2, isa="scalar", verify=True)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(other))
    assert again.path == str(QBIN) and again is not other
    assert pickle.dumps(again) == pickle.dumps(other)  # with the same options
    np.testing.assert_array_equal(again.logits(normalised), model.logits(normalised))
    error = pickle.loads(pickle.dumps(vitrun.Error("no", "VIT_ERROR_FILE")))
    assert (str(error), error.status) == ("no", "VIT_ERROR_FILE")


def answer(model, images, pipe):
    pipe.send(model.logits(images))


def check_child(context, model, images, wanted):
    ours, theirs = context.Pipe()
    child = context.Process(target=answer, args=(model, images, theirs))
    child.start()
    assert ours.poll(LIMIT), "the child hangs"
    np.testing.assert_array_equal(ours.recv(), wanted)
    child.join(LIMIT)
    assert child.exitcode == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_child_process_answers(normalised, method, threads):
    context = multiprocessing.get_context(method)
    with vitrun.Model(QBIN, threads=threads) as model:
        wanted = model.logits(normalised)
        for _ in range(2):
            check_child(context, model, normalised, wanted)
        np.testing.assert_array_equal(model.logits(normalised), wanted)


def test_a_child_forked_while_threads_run_answers(normalised):
    with vitrun.Model(QBIN, threads=2) as model:
        wanted = model.logits(normalised)
        stop = threading.Event()

        def work():
            while not stop.is_set():
                model.logits(normalised)

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        try:
            context = multiprocessing.get_context("fork")
            for _ in range(10):
                check_child(context, model, normalised, wanted)
        finally:
            stop.set()
            for worker in workers:
                worker.join()


def test_the_interpreter_ends_while_a_daemon_thread_runs():
    program = f"""
import numpy, threading, vitrun
model = vitrun.Model({str(QBIN)!r}, threads=2)
images = numpy.zeros((4, 3, 32, 32), numpy.float32)
started = threading.Event()
def work():
    while True:
        model.logits(images)
        started.set()
threading.Thread(target=work, daemon=True).start()
started.wait()
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT)
        assert (done.returncode, done.stderr) == (0, "")
