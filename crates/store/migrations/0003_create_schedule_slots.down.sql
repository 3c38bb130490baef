-- The history of runs goes, and with it what is owed: after the next `up` every task is seen for the first time.
DROP TABLE schedule_slots;
DROP TABLE schedule_tasks;
