-- All tokens stop working. Their secrets exist nowhere else: they have to be made anew.
drop table service_tokens;
