"""The fields of the six resources as JSON Schema, for the contestants that want that; all that is mixed is text."""

from typing import Any

TEXT, NUMBER, BOOLEAN = ({"type": [kind, "null"]} for kind in ("string", "number", "boolean"))
OBJECT, LIST = {"type": ["object", "null"]}, {"type": ["array", "null"], "items": {}}
LEARNER = dict.fromkeys(("user_id", "user_name", "user_email"), TEXT)
FIELDS: dict[str, dict[str, Any]] = {
    "users": dict.fromkeys(("id", "email", "display_name", "first_name", "last_name", "created_at"), TEXT)
    | {"segments": LIST, "custom_registration_field_values": LIST},
    "trainings": dict.fromkeys(("id", "type", "name", "created_at"), TEXT),
    "registrations": dict.fromkeys(("id", "completed_at", "due_at", "due_date", "pass_status", "created_at"), TEXT)
    | {"is_completed": BOOLEAN, "completion_percentage": NUMBER, "score": NUMBER, "user": OBJECT, "content": OBJECT},
    "certifications": dict.fromkeys(
        ("id", "name", "description", "created_at", "awarded_by_name", "awarded_by_title"), TEXT
    ),
    "awarded_certifications": dict.fromkeys(("id", "name", "description", "awarded_at"), TEXT) | LEARNER,
    "paths_users": dict.fromkeys(("id", "path_id", "path_name", "path_description", "completed_at"), TEXT)
    | {"progress_percentage": NUMBER, **LEARNER},
}
TIMES = {
    "users": ["created_at"],
    "trainings": ["created_at"],
    "registrations": ["completed_at", "due_at", "due_date", "created_at"],
    "certifications": ["created_at"],
    "awarded_certifications": ["awarded_at"],
    "paths_users": ["completed_at"],
}
