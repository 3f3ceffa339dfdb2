"""Makes phones ring, from Python: `python ring.py ring|cancel CALL_ID DEVICES.json`.

Publishes one event to ringpush with publisher confirms. AMQP_URL and
AMQP_PREFIX (default "ringpush") say where.
"""

import datetime
import json
import os
import sys
import uuid

import pika

RING_TIME = datetime.timedelta(seconds=45)


class Publisher:
    """A connection to the broker on which every event is confirmed."""

    def __init__(self, url: str, prefix: str = "ringpush") -> None:
        parameters = pika.URLParameters(url)
        parameters.socket_timeout = 3
        parameters.blocked_connection_timeout = 3
        self._connection = pika.BlockingConnection(parameters)
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._exchange = f"{prefix}.calls"

    def publish(self, event: dict) -> None:
        """Returns once the broker has the event; raises NackError if it has not."""
        self._channel.basic_publish(
            self._exchange,
            routing_key(event),
            json.dumps(event).encode(),
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=pika.DeliveryMode.Persistent,
                message_id=event["event_id"],
                correlation_id=event["call_id"],
                type=event["event"],
                # No expiration: the deadline is in the event.
            ),
        )

    def close(self) -> None:
        self._connection.close()


def routing_key(event: dict) -> str:
    """One platform's rings go straight to its queue; a mix is split by the worker."""
    if event["event"] == "cancel":
        return "cancel"
    platforms = {device["platform"] for device in event["devices"]}
    return f"ring.{platforms.pop()}" if len(platforms) == 1 else "ring"


def ring(call_id: str, caller: dict, devices: list, media: str = "audio") -> dict:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "v": 1,
        "event": "ring",
        "event_id": str(uuid.uuid4()),
        "call_id": call_id,
        "sent_at": now.isoformat(),
        "expires_at": (now + RING_TIME).isoformat(),
        "media": media,
        "caller": caller,
        "devices": devices,
    }


def cancel(call_id: str, reason: str, devices: list) -> dict:
    return {
        "v": 1,
        "event": "cancel",
        "event_id": str(uuid.uuid4()),
        "call_id": call_id,
        "sent_at": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "reason": reason,
        "devices": devices,
    }


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in ("ring", "cancel"):
        sys.exit(__doc__)
    kind, call_id, file = sys.argv[1:]
    with open(file, encoding="utf-8") as source:
        devices = json.load(source)
    if kind == "ring":
        event = ring(call_id, {"id": "user-1", "name": "Alice Martin"}, devices)
    else:
        event = cancel(call_id, "caller_hangup", devices)
    publisher = Publisher(os.environ["AMQP_URL"], os.environ.get("AMQP_PREFIX", "ringpush"))
    publisher.publish(event)
    publisher.close()
    print(event["event_id"])


if __name__ == "__main__":
    main()
