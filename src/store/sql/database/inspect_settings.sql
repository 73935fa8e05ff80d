-- inspect_settings: settings as a new session of this role in this database has them, in their base units.
SELECT name, reset_val, coalesce(unit, '') FROM pg_settings WHERE name = ANY ($1)
