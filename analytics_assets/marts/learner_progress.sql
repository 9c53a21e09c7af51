-- One row per learner that is not deleted, with registrations and certificates. Both are counted before the join, or
-- each registration would count once per certificate.
WITH registered AS (
    SELECT
        user_id,
        count(registration_id) AS registrations,
        count(CASE WHEN status = 'completed' THEN 1 END) AS completed,
        count(CASE WHEN status = 'overdue' THEN 1 END) AS overdue,
        count(
            CASE
                WHEN
                    status NOT IN ('completed', 'overdue')
                    AND date_diff(
                        'day',
                        cast(current_timestamp AT TIME ZONE 'UTC' AS date),
                        cast(due_at AT TIME ZONE 'UTC' AS date)
                    ) <= 30
                    THEN 1
            END
        ) AS at_risk,
        max(coalesce(completed_at, created_at)) AS last_at
    FROM analytics.registrations_enriched
    GROUP BY user_id
),

awarded AS (
    SELECT
        user_id,
        count(id) AS certificates,
        max(awarded_at) AS last_at
    FROM analytics.awarded_certifications
    WHERE _deleted_at IS NULL
    GROUP BY user_id
)

SELECT
    users.id AS user_id,
    users.display_name AS user_display_name,
    users.email AS user_email,
    users.segments AS user_segments,
    coalesce(registered.registrations, 0) AS registrations,
    coalesce(registered.completed, 0) AS completed,
    coalesce(registered.overdue, 0) AS overdue,
    coalesce(registered.at_risk, 0) AS at_risk,
    coalesce(awarded.certificates, 0) AS certificates_awarded,
    -- Neither is null if the other is not: `greatest` of a null differs between warehouses.
    greatest(coalesce(registered.last_at, awarded.last_at), coalesce(awarded.last_at, registered.last_at))
        AS last_activity_at
FROM analytics.users
LEFT JOIN registered ON registered.user_id = users.id
LEFT JOIN awarded ON awarded.user_id = users.id
WHERE users._deleted_at IS NULL
