-- One row per training that is not deleted, with the outcomes of its registrations.
WITH registered AS (
    SELECT
        training_id,
        registration_id,
        status,
        pass_status,
        completed_at,
        score,
        days_to_complete,
        -- Ranks within the training, for the medians: `median` is missing or spelled differently on other warehouses.
        count(score) OVER (PARTITION BY training_id) AS scores,
        row_number() OVER (PARTITION BY training_id ORDER BY score NULLS LAST) AS score_rank,
        count(days_to_complete) OVER (PARTITION BY training_id) AS durations,
        row_number() OVER (PARTITION BY training_id ORDER BY days_to_complete NULLS LAST) AS duration_rank
    FROM analytics.registrations_enriched
)

SELECT
    trainings.id AS training_id,
    trainings.name AS training_name,
    trainings.type AS training_type,
    count(registered.registration_id) AS registrations,
    count(CASE WHEN registered.status = 'not_started' THEN 1 END) AS not_started,
    count(CASE WHEN registered.status = 'in_progress' THEN 1 END) AS in_progress,
    count(CASE WHEN registered.status = 'completed' THEN 1 END) AS completed,
    count(CASE WHEN registered.status = 'overdue' THEN 1 END) AS overdue,
    cast(avg(CASE WHEN registered.status = 'completed' THEN 1.0 WHEN registered.status IS NOT NULL THEN 0.0 END) AS double)
        AS completion_rate,
    cast(avg(CASE lower(registered.pass_status) WHEN 'passed' THEN 1.0 WHEN 'failed' THEN 0.0 END) AS double)
        AS pass_rate,
    -- Not `avg`, which on Postgres overflows if the square of a number does.
    sum(registered.score) / count(registered.score) AS mean_score,
    -- The mean of the one or two middle values.
    avg(CASE WHEN 2 * score_rank BETWEEN scores AND scores + 2 THEN score END) AS median_score,
    cast(avg(CASE WHEN 2 * duration_rank BETWEEN durations AND durations + 2 THEN days_to_complete END) AS double)
        AS median_days_to_complete,
    max(registered.completed_at) AS last_completed_at
FROM analytics.trainings
LEFT JOIN registered ON registered.training_id = trainings.id
WHERE trainings._deleted_at IS NULL
GROUP BY trainings.id, trainings.name, trainings.type
