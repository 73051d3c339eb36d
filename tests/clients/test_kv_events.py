"""A router's view: the blocks that enter and leave the prefix cache, as vLLM publishes them over ZeroMQ."""

import socket
import time

import msgspec
import pytest
import requests
import zmq
from conftest import MODEL, PATIENCE_S, free_port, model_file

PAGE = 16
POOL = 40


# The structs as subscribers of vLLM declare them.
class KVCacheEvent(msgspec.Struct, array_like=True, tag=True):
    pass


class BlockStored(KVCacheEvent):
    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[list[str] | None] | None


class BlockRemoved(KVCacheEvent):
    block_hashes: list[int]
    medium: str | None


class AllBlocksCleared(KVCacheEvent):
    pass


class KVEventBatch(msgspec.Struct, array_like=True):
    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None


class Subscriber:
    """Reads batches, checks their numbers, and keeps which blocks are there."""

    def __init__(self, endpoint, topic):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self.socket.connect(endpoint)
        self.next = None
        self.parents = {}
        self.tokens = {}

    def events(self, until):
        """Events, until `until` says that those so far are all."""
        decoder = msgspec.msgpack.Decoder(KVEventBatch)
        found = []
        while not until(found):
            assert self.socket.poll(PATIENCE_S * 1000), f"nothing more after {found}"
            topic, number, payload = self.socket.recv_multipart()
            assert topic == f"kv@pie@{MODEL}".encode()
            number = int.from_bytes(number, "big")
            assert self.next in (None, number), "no batch is missing"
            self.next = number + 1
            batch = decoder.decode(payload)
            assert abs(batch.ts - time.time()) < PATIENCE_S and batch.data_parallel_rank == 0
            for event in batch.events:
                self.take(event)
                found.append(event)
        return found

    def take(self, event):
        if isinstance(event, BlockStored):
            assert (event.block_size, event.medium, event.lora_id) == (PAGE, "GPU", None)
            assert len(event.token_ids) == PAGE * len(event.block_hashes) == PAGE * len(event.extra_keys)
            parent = event.parent_block_hash
            assert parent is None or parent in self.tokens, "a block comes after its parent"
            # A user's first block says which user's it is.
            assert (parent is None) == (event.extra_keys[0] is not None)
            for at, block in enumerate(event.block_hashes):
                self.parents[block] = parent
                self.tokens[block] = tuple(event.token_ids[at * PAGE : (at + 1) * PAGE])
                parent = block
        elif isinstance(event, BlockRemoved):
            for block in event.block_hashes:
                # One that came before this subscriber is unknown.
                self.tokens.pop(block, None), self.parents.pop(block, None)

    def chain(self, tokens):
        """How many blocks of a prompt are there, found as a router finds them: block after block."""
        parent, count = None, 0
        for at in range(0, len(tokens) - PAGE + 1, PAGE):
            block = tuple(tokens[at : at + PAGE])
            following = [b for b, t in self.tokens.items() if t == block and self.parents[b] == parent]
            if not following:
                break
            (parent,), count = following, count + 1
        return count


@pytest.fixture(scope="module")
def served(pie, tmp_path_factory):
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    config = tmp_path_factory.mktemp("kv-events") / "pie.toml"
    config.write_text(
        f"[kv_events]\nendpoint = '{endpoint}'\ntopic = 'kv@pie@{{model}}'\n\n"
        f"[[backend]]\nmodel = '{model_file()}'\nkv_page_size = {PAGE}\nmax_num_kv_pages = {POOL}\n"
    )
    with pie.serving("--config", str(config)) as url:
        yield url, endpoint


def complete(url, prompt):
    body = {"prompt": prompt, "max_tokens": 2, "temperature": 0}
    response = requests.post(f"{url}/v1/completions", json=body, timeout=PATIENCE_S)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_subscriber_knows_the_blocks_of_prompts_and_those_that_go(served):
    url, endpoint = served
    subscriber = Subscriber(endpoint, "kv@pie@")
    time.sleep(0.5)  # As with every PUB socket: until its subscription has arrived.
    shared = list(range(1000, 1000 + 4 * PAGE))
    first, second = shared + list(range(2000, 2000 + PAGE + 3)), shared + list(range(3000, 3000 + PAGE + 3))
    complete(url, first)
    told = subscriber.events(lambda _: subscriber.chain(first) == 5)
    assert all(isinstance(event, BlockStored) for event in told)
    complete(url, second)
    told = subscriber.events(lambda _: subscriber.chain(second) == 5)
    assert sum(len(event.block_hashes) for event in told) == 1, "what is shared does not come again"
    assert told[0].parent_block_hash in subscriber.tokens

    # A prompt that takes nearly all of the pool: the blocks of those before go.
    long = list(range(5000, 5000 + (POOL - 4) * PAGE))
    complete(url, long)
    told = subscriber.events(lambda _: subscriber.chain(long) >= POOL - 5)
    assert any(isinstance(event, BlockRemoved) for event in told)
    assert len(subscriber.tokens) <= POOL
    assert subscriber.chain(first) < 5 or subscriber.chain(second) < 5


def test_other_topics_hear_nothing_and_strangers_disturb_nobody(served):
    url, endpoint = served
    other = Subscriber(endpoint, "another")
    host, port = endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 100)
        time.sleep(0.5)
        subscriber = Subscriber(endpoint, "kv@pie@")
        time.sleep(0.5)
        prompt = list(range(7000, 7000 + 3 * PAGE))
        complete(url, prompt)
        subscriber.events(lambda _: subscriber.chain(prompt) >= 2)
    assert not other.socket.poll(100)
