-- key_share_namespaces: namespaces that must exist when something is put into them. The weakest lock keeps them from being deleted and blocks
-- nothing else. Each is locked once, however many rows of the group go into it.
SELECT v.c
FROM {rows}
JOIN (
    SELECT namespace_id FROM namespaces WHERE namespace_id = ANY ({namespace_id}) FOR KEY SHARE SKIP LOCKED
) n USING (namespace_id)
