-- note_probes: nothing but the row of the group: a write that shows that writes succeed.
SELECT v.c
FROM {rows}
JOIN ok USING (c)
