-- One row per training and day (UTC), from the training's first state to the last sync of registrations. The counts are
-- running sums of events: a join of states with days would make a row per registration and day.
WITH syncs_by_day AS (
    -- The order of syncs is that of their numbers: if a clock was set back, an earlier sync counts on the later's day.
    SELECT
        number,
        min(cast(started_at AT TIME ZONE 'UTC' AS date)) OVER (ORDER BY number DESC) AS day
    FROM analytics.syncs
    WHERE resource = 'registrations'
),

histories AS (
    SELECT
        content_id AS training_id,
        from_sync,
        to_sync,
        cast(coalesce(due_at, due_date) AT TIME ZONE 'UTC' AS date) AS due_on,
        coalesce(is_completed, false) OR completed_at IS NOT NULL AS is_completed,
        completion_percentage
    FROM analytics.registration_history
),

-- Few rows: all states of a training with the same syncs and, unless they are completed, the same due day.
counted AS (
    SELECT
        training_id,
        from_sync,
        to_sync,
        CASE WHEN NOT is_completed THEN due_on END AS due_on,
        count(*) AS registrations,
        count(CASE WHEN is_completed THEN 1 END) AS completed,
        count(CASE WHEN NOT is_completed AND completion_percentage > 0 THEN 1 END) AS in_progress
    FROM histories
    GROUP BY 1, 2, 3, 4
),

-- From `overdue_on`, if it is not null, they are overdue until they end.
states AS (
    SELECT
        counted.training_id,
        began.day AS began_on,
        ended.day AS ended_on,
        -- Not `greatest`, which of a null differs between warehouses.
        CASE
            WHEN counted.due_on >= ended.day THEN NULL
            WHEN counted.due_on <= began.day THEN began.day
            ELSE counted.due_on
        END AS overdue_on,
        counted.registrations,
        counted.completed,
        counted.in_progress
    FROM counted
    INNER JOIN syncs_by_day AS began ON began.number = counted.from_sync
    LEFT JOIN syncs_by_day AS ended ON ended.number = counted.to_sync
),

-- What is added to each count on the days on which states begin, become overdue, and end.
events AS (
    SELECT training_id, began_on AS day, registrations, completed, 0 AS overdue, in_progress FROM states
    UNION ALL
    SELECT
        training_id,
        overdue_on AS day,
        0 AS registrations,
        0 AS completed,
        registrations AS overdue,
        -in_progress AS in_progress
    FROM states
    UNION ALL
    SELECT
        training_id,
        ended_on AS day,
        -registrations AS registrations,
        -completed AS completed,
        CASE WHEN overdue_on IS NULL THEN 0 ELSE -registrations END AS overdue,
        CASE WHEN overdue_on IS NULL THEN -in_progress ELSE 0 END AS in_progress
    FROM states
),

changes AS (
    SELECT
        training_id,
        day,
        sum(registrations) AS registrations,
        sum(completed) AS completed,
        sum(overdue) AS overdue,
        sum(in_progress) AS in_progress
    FROM events
    GROUP BY training_id, day
),

first_days AS (
    SELECT training_id, min(began_on) AS day FROM states GROUP BY training_id
),

digits AS (
    SELECT digit FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS listed (digit)
),

-- Not `generate_series`, which other warehouses lack.
days AS (
    SELECT cast(spanned.first_day + numbers.n AS date) AS day
    FROM (SELECT min(day) AS first_day, max(day) AS last_day FROM syncs_by_day) AS spanned
    CROSS JOIN (
        SELECT a.digit + 10 * b.digit + 100 * c.digit + 1000 * d.digit + 10000 * e.digit AS n
        FROM digits AS a
        CROSS JOIN digits AS b
        CROSS JOIN digits AS c
        CROSS JOIN digits AS d
        CROSS JOIN digits AS e
    ) AS numbers
    WHERE spanned.first_day + numbers.n <= spanned.last_day
)

SELECT
    trainings.id AS training_id,
    days.day,
    trainings.name AS training_name,
    cast(sum(coalesce(changes.registrations, 0)) OVER (PARTITION BY trainings.id ORDER BY days.day NULLS FIRST) AS bigint)
        AS registrations,
    cast(sum(coalesce(changes.completed, 0)) OVER (PARTITION BY trainings.id ORDER BY days.day NULLS FIRST) AS bigint)
        AS completed,
    cast(sum(coalesce(changes.overdue, 0)) OVER (PARTITION BY trainings.id ORDER BY days.day NULLS FIRST) AS bigint)
        AS overdue,
    cast(sum(coalesce(changes.in_progress, 0)) OVER (PARTITION BY trainings.id ORDER BY days.day NULLS FIRST) AS bigint)
        AS in_progress
FROM analytics.trainings
INNER JOIN first_days ON first_days.training_id = trainings.id
INNER JOIN days ON days.day >= first_days.day
LEFT JOIN changes ON changes.training_id = trainings.id AND changes.day = days.day
