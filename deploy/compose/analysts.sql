-- What analysts may read: run on the warehouse after the first sync, which makes the tables, and after each upgrade.
-- Named one by one, for beside them are rows as the API gave them (`rejected_rows`), and tables of the loader's own.
GRANT SELECT ON
    analytics.users,
    analytics.trainings,
    analytics.registrations,
    analytics.certifications,
    analytics.awarded_certifications,
    analytics.paths_users,
    analytics.registrations_enriched,
    analytics.training_outcomes,
    analytics.learner_progress,
    analytics.syncs,
    analytics.data_dictionary,
    analytics.sync_log
TO analysts;
