-- What analysts may read. Run this on the warehouse after the first sync, which makes the tables, and after upgrades.
-- Tables are named one by one: the schema also has raw rows of the API (`rejected_rows`) and the loader's own tables.
GRANT SELECT ON
    analytics.users,
    analytics.trainings,
    analytics.registrations,
    analytics.certifications,
    analytics.awarded_certifications,
    analytics.paths_users,
    analytics.user_history,
    analytics.registration_history,
    analytics.enrolment_history,
    analytics.registrations_enriched,
    analytics.training_outcomes,
    analytics.learner_progress,
    analytics.progress_by_day,
    analytics.syncs,
    analytics.data_dictionary,
    analytics.sync_log
TO analysts;
