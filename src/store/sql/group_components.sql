-- group_components: which components of a committed group were applied.
SELECT components FROM write_groups WHERE group_id = $1
