-- The history of runs goes, and with it what is owed: after the next `up` every task is seen for the first time.
drop table schedule_slots;
drop table schedule_tasks;
