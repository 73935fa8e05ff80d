-- ended_keys: whether a credential expired or was revoked more than $1 microseconds ago.
SELECT EXISTS (
    SELECT FROM api_keys k WHERE least(k.expire_time, k.revoke_time) < now() - $1::int8 * interval '1 microsecond'
)
