-- One row per registration that is not deleted, with its learner and its training.
WITH registered AS (
    SELECT
        id,
        user_id,
        content_id,
        created_at,
        completed_at,
        completion_percentage,
        score,
        is_completed,
        pass_status,
        coalesce(due_at, due_date) AS due,
        CASE
            WHEN coalesce(is_completed, false) OR completed_at IS NOT NULL THEN 'completed'
            WHEN coalesce(due_at, due_date) < current_timestamp THEN 'overdue'
            WHEN completion_percentage > 0 THEN 'in_progress'
            ELSE 'not_started'
        END AS status
    FROM analytics.registrations
    WHERE _deleted_at IS NULL
)

SELECT
    registered.id AS registration_id,
    registered.user_id,
    users.display_name AS user_display_name,
    users.email AS user_email,
    CASE
        WHEN users.email LIKE '%_@_%._%' AND users.email NOT LIKE '%@%@%' AND users.email NOT LIKE '% %'
            THEN lower(substring(users.email, strpos(users.email, '@') + 1))
    END AS email_domain,
    users.segments AS user_segments,
    registered.content_id AS training_id,
    trainings.name AS training_name,
    trainings.type AS training_type,
    registered.created_at,
    registered.due AS due_at,
    registered.completed_at,
    registered.completion_percentage,
    registered.score,
    registered.is_completed,
    registered.pass_status,
    registered.status,
    -- Between dates: the difference of two times in days differs between warehouses.
    date_diff(
        'day',
        cast(registered.created_at AT TIME ZONE 'UTC' AS date),
        cast(registered.completed_at AT TIME ZONE 'UTC' AS date)
    ) AS days_to_complete,
    CASE
        WHEN registered.status = 'overdue'
            THEN date_diff(
                'day',
                cast(registered.due AT TIME ZONE 'UTC' AS date),
                cast(current_timestamp AT TIME ZONE 'UTC' AS date)
            )
    END AS days_overdue,
    users.id IS NOT NULL AS has_user,
    trainings.id IS NOT NULL AS has_training
FROM registered
LEFT JOIN analytics.users ON users.id = registered.user_id
LEFT JOIN analytics.trainings ON trainings.id = registered.content_id
