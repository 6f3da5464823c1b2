"""Drive a run with pyzmq and msgpack alone, then read its vectors with pyarrow: nothing of embedfleet is imported.

    python thin_client.py ADDRESS SOURCE OUT MODEL

SOURCE and OUT are paths on the coordinator's host. The messages are those of protocol/wire/control.py, as maps.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import msgpack
import pyarrow.parquet as pq
import zmq

PROTOCOL = 2


def main(address: str, source: str, out: str, model: str) -> int:
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(f"{address}/control" if address.startswith("ipc://") else address)
    numbers = itertools.count(1)

    def receive() -> dict[str, Any]:
        if not socket.poll(30_000):
            sys.exit(f"no word from a coordinator at {address} for 30 s")
        return msgpack.unpackb(socket.recv())

    def ask(**message: Any) -> dict[str, Any]:
        number = next(numbers)
        socket.send(msgpack.packb({"request": number, **message}))
        while (answer := receive()).get("request") != number:
            pass
        if answer["type"] == "refused":
            sys.exit(f"{answer['kind']}: {answer['message']}")
        return answer

    welcome = ask(type="hello", protocol=PROTOCOL, build="thin client")
    print(f"connected to embedfleet {welcome['build']}")
    passes = [{"vector": "dense", "kind": "dense", "model": model}]
    spec = {"source": source, "passes": passes, "index": "none", "preprocessing": "nfc-blank-2"}
    run = ask(type="submit", spec=spec, out=out)["run"]
    ask(type="watch", run=run)
    while (message := receive())["type"] != "run_ended":
        one = message["passes"][0]
        print(f"{one['state']}: {one['rows_done']} of {message['rows']} rows, devices: {', '.join(one['devices'])}")
    print(f"{message['status']}: {message['committed']} of {message['chunks']} committed {message['error']}".strip())
    if message["status"] != "done":
        return 1
    for path in sorted(Path(out, "vectors", "dense").glob("*.parquet"), key=lambda path: int(path.stem)):
        table = pq.read_table(path, columns=["row", "id", "vector"])
        print(f"{path.name}: {table.num_rows} vectors, {table.schema.field('vector').type}, first id {table['id'][0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]) if len(sys.argv) == 5 else __doc__)
