-- One row a training that is not deleted, with what came of the registrations for it.
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
    avg(registered.score) AS mean_score,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY registered.score) AS median_score,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY registered.days_to_complete) AS median_days_to_complete,
    max(registered.completed_at) AS last_completed_at
FROM analytics.trainings
LEFT JOIN analytics.registrations_enriched AS registered ON registered.training_id = trainings.id
WHERE trainings._deleted_at IS NULL
GROUP BY trainings.id, trainings.name, trainings.type
