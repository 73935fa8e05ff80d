-- V12: what is forgotten after a while is found by walking over the pages of its table, not by range indexes: those lose their worth once freed
-- pages are filled again, and each insert kept them up to date.

DROP INDEX requests_by_age;
DROP INDEX write_groups_by_age;
