"""The services of Qdrant that an upload calls, over collections in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc as rpc
from qdrant_client import grpc

from .collection import BadRequest, Collection, PointKey, point_key
from .faults import Faults


class Store:
    """The collections, what was asked of them, and the faults that requests meet."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}
        self.asked: list[tuple[str, Any]] = []
        """Method and message of each request, whatever became of it."""
        self.most_bytes: int | None = None
        """The limit on a request that Qdrant itself has; gRPC takes it, and Qdrant refuses it."""
        self.faults = Faults()
        self._lock = threading.RLock()

    def answer(self, method: str, asked: Any, context: rpc.ServicerContext, work: Callable[[], Any]) -> Any:
        """The response that `work` makes, one request at a time; or what a fault makes of it."""
        size = asked.ByteSize()
        if self.most_bytes is not None and size > self.most_bytes:
            found = f"found {size} bytes, the limit is: {self.most_bytes} bytes"
            context.abort(rpc.StatusCode.OUT_OF_RANGE, f"Error, decoded message length too large: {found}")
        self.asked.append((method, asked))

        def obey() -> Any:
            with self._lock:
                try:
                    return work()
                except BadRequest as error:
                    context.abort(rpc.StatusCode.INVALID_ARGUMENT, str(error))
                except KeyError as error:
                    context.abort(rpc.StatusCode.NOT_FOUND, f"Not found: Collection `{error.args[0]}` doesn't exist!")

        return self.faults.meet(method, context, obey)


class Collections(grpc.CollectionsServicer):
    """`qdrant.Collections`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def List(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            names = [grpc.CollectionDescription(name=name) for name in self._store.collections]
            return grpc.ListCollectionsResponse(collections=names)

        return self._store.answer("List", request, context, work)

    def CollectionExists(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            exists = request.collection_name in self._store.collections
            return grpc.CollectionExistsResponse(result=grpc.CollectionExists(exists=exists))

        return self._store.answer("CollectionExists", request, context, work)

    def Create(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            if request.collection_name in self._store.collections:
                raise BadRequest(f"Wrong input: Collection `{request.collection_name}` already exists!")
            self._store.collections[request.collection_name] = Collection(request)
            return grpc.CollectionOperationResponse(result=True)

        return self._store.answer("Create", request, context, work)

    def Get(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            return grpc.GetCollectionInfoResponse(result=self._store.collections[request.collection_name].info())

        return self._store.answer("Describe", request, context, work)

    def Update(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            self._store.collections[request.collection_name].update(request)
            return grpc.CollectionOperationResponse(result=True)

        return self._store.answer("Update", request, context, work)


class Points(grpc.PointsServicer):
    """`qdrant.Points`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def Upsert(self, request: Any, context: Any) -> Any:
        return self._write("Upsert", request, context, lambda one: one.upsert(request.points))

    def Delete(self, request: Any, context: Any) -> Any:
        return self._write("Delete", request, context, lambda one: one.delete(request.points.points.ids))

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        return self._write("CreateFieldIndex", request, context, lambda one: one.index(request))

    def DeleteFieldIndex(self, request: Any, context: Any) -> Any:
        return self._write("DeleteFieldIndex", request, context, lambda one: one.drop_index(request.field_name))

    def Get(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            points = self._store.collections[request.collection_name].points
            keys = [key for one in request.ids if (key := point_key(one)) in points]
            return grpc.GetResponse(result=[_retrieved(points[key], request) for key in keys])

        return self._store.answer("Retrieve", request, context, work)

    def Scroll(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            start: PointKey = point_key(request.offset) if request.HasField("offset") else (0, "")
            found = self._store.collections[request.collection_name].select(request.filter)
            found = [point for point in found if point_key(point.id) >= start]
            page = [_retrieved(point, request) for point in found[: request.limit]]
            following = found[request.limit].id if len(found) > request.limit else None
            return grpc.ScrollResponse(result=page, next_page_offset=following)

        return self._store.answer("Scroll", request, context, work)

    def Count(self, request: Any, context: Any) -> Any:
        def work() -> Any:
            count = self._store.collections[request.collection_name].counted(request.filter)
            return grpc.CountResponse(result=grpc.CountResult(count=count))

        return self._store.answer("Count", request, context, work)

    def _write(self, method: str, request: Any, context: Any, change: Callable[[Collection], None]) -> Any:
        def work() -> Any:
            if not request.wait:
                raise BadRequest(f"{method} without wait=true: nothing is known when it returns")
            change(self._store.collections[request.collection_name])
            return grpc.PointsOperationResponse(result=grpc.UpdateResult(status=grpc.UpdateStatus.Completed))

        return self._store.answer(method, request, context, work)


def _retrieved(point: grpc.PointStruct, asked: Any) -> grpc.RetrievedPoint:
    """The point with what was asked for. Vectors of requests and of responses have the same fields, by number."""
    found = grpc.RetrievedPoint(id=point.id, payload=point.payload if asked.with_payload.enable else {})
    if asked.with_vectors.enable:
        found.vectors.ParseFromString(point.vectors.SerializeToString())
    return found
