-- What is wrong is observed again after the next `up`, and told again.
drop table alert_deliveries;
drop table alerts;
drop table alert_sources;
