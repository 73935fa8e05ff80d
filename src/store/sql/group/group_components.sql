-- group_components: the components of a committed group that were applied.
SELECT components FROM write_groups WHERE group_id = $1
