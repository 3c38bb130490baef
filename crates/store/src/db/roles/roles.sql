-- The roles of utxoIQ Store. Cluster-wide: one set serves all databases of a server. Running this again changes
-- nothing; running it several times at once is safe. It sets no passwords: set those that log in with \password.
--
--   utxoiq_owner      owns every table and function but the audit log's; nobody logs in as it
--   utxoiq_audit      owns the audit log; nobody logs in as it, and only migrations become it
--   utxoiq_migrator   applies migrations; becomes the owner by SET ROLE and has no rights of its own
--   utxoiq_app        serves; migrations grant it what it needs, table by table
--   utxoiq_retention  archives and deletes, only through functions that check again
--   utxoiq_backup     reads everything
--   utxoiq_drill      makes scratch databases and restores into them, with the rights of both owners, as pg_restore needs;
--                     therefore it may not connect to this database: whoever restores into it grants that first
--
-- PUBLIC loses every right on this database and on its schema public. Whoever else uses the database needs its rights by
-- name: GRANT CONNECT ON DATABASE … TO …, GRANT USAGE ON SCHEMA public TO ….
--
-- Run it as a superuser, or as a role with CREATEROLE and CREATEDB that owns the database.
begin;
do $check$
begin
    if current_database() <> {database} then
        raise exception 'this is written for the database %, not for %', {database}, current_database();
    end if;
end
$check$;
select pg_advisory_xact_lock(8462114387912318);

do $roles$
declare
    -- From version 16 on, what a member may do is said for each membership, and the creator of a role may administer
    -- it but neither become it nor use its rights. Before, a role's own attribute decides for all its memberships.
    by_membership constant boolean := current_setting('server_version_num')::int >= 160000;
    wanted record;
begin
    for wanted in
        select name, login, inherit, createdb, rolname is null as missing
        from (values
            -- Before version 16 this is what keeps the audit log's owner out of the owner's functions.
            ('utxoiq_owner',     false, false, false),
            ('utxoiq_audit',     false, false, false),
            ('utxoiq_migrator',  true,  false, false),
            ('utxoiq_app',       true,  true,  false),
            ('utxoiq_retention', true,  true,  false),
            ('utxoiq_backup',    true,  true,  false),
            ('utxoiq_drill',     true,  true,  true)
        ) as roles (name, login, inherit, createdb)
        left join pg_roles on rolname = name
        where (rolcanlogin, rolinherit, rolcreatedb) is distinct from (login, inherit, createdb)
    loop
        execute format('%s role %I with %s %s %s', case when wanted.missing then 'create' else 'alter' end, wanted.name,
                       case when wanted.login then 'login' else 'nologin' end,
                       case when wanted.inherit then 'inherit' else 'noinherit' end,
                       case when wanted.createdb then 'createdb' else 'nocreatedb' end);
    end loop;

    -- Members become what they are a member of by SET ROLE, and have none of its rights before (the drill's role excepted).
    -- No function of the owner's can do that: SET ROLE is refused in a SECURITY DEFINER function.
    for wanted in
        select name, whole, inherits
        from (values
            ('utxoiq_migrator', 'utxoiq_owner', false),
            ('utxoiq_owner',    'utxoiq_audit', false),
            -- pg_restore gives a table to its owner before it copies the rows in.
            ('utxoiq_drill',    'utxoiq_owner', true),
            ('utxoiq_drill',    'utxoiq_audit', true)
        ) as members (name, whole, inherits)
        where not pg_has_role(name, whole, 'member') or pg_has_role(name, whole, 'usage') <> inherits
    loop
        execute format('grant %I to %I', wanted.whole, wanted.name)
            || case when by_membership then format(' with inherit %s, set true', wanted.inherits::text) else '' end;
    end loop;

    -- Whoever runs this, unless it is a superuser, must be able to act as the owner below.
    if not (select rolsuper from pg_roles where rolname = current_user)
        and not pg_has_role(current_user, 'utxoiq_owner', 'usage')
    then
        execute format('grant utxoiq_owner to %I', current_user)
            || case when by_membership then ' with inherit true, set true' else '' end;
    end if;
end
$roles$;

-- Reading everything is a right of its own, which not every administrator may pass on; without it the owner's future
-- tables are opened to the backup one by one.
do $backup$
begin
    if not pg_has_role('utxoiq_backup', 'pg_read_all_data', 'usage') then
        grant pg_read_all_data to utxoiq_backup;
    end if;
exception when insufficient_privilege then
    grant usage on schema public to utxoiq_backup;
    alter default privileges for role utxoiq_owner grant select on tables to utxoiq_backup;
    alter default privileges for role utxoiq_owner grant select on sequences to utxoiq_backup;
end
$backup$;

-- This database. The owner may CREATE in it because trusted extensions (btree_gist) need that. Who logs in here is
-- granted it by name; the owners do not, and what is granted to them is granted to the drill's role, which inherits it.
do $grants$
declare
    role text;
begin
    foreach role in array array['utxoiq_migrator', 'utxoiq_app', 'utxoiq_retention', 'utxoiq_backup'] loop
        if not exists (
            select from pg_database, aclexplode(datacl)
            where datname = current_database() and grantee = role::regrole and privilege_type = 'CONNECT'
        ) then
            execute format('grant connect on database %I to %I', current_database(), role);
        end if;
    end loop;
    foreach role in array array[
        'utxoiq_owner', 'utxoiq_migrator', 'utxoiq_app', 'utxoiq_retention', 'utxoiq_backup', 'utxoiq_drill', 'utxoiq_audit'
    ] loop
        if not exists (
            select from pg_namespace, aclexplode(nspacl)
            where nspname = 'public' and grantee = role::regrole and privilege_type = 'USAGE'
        ) then
            execute format('grant usage on schema public to %I', role);
        end if;
    end loop;
    -- A database of its own (one to try a backup in) the drill's role may of course connect to.
    for role in
        select distinct case grantee when 0 then 'public' else grantee::regrole::text end
        from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
        where datname = current_database() and grantee <> datdba and privilege_type in ('CONNECT', 'TEMPORARY')
            and (grantee = 0 or (privilege_type = 'CONNECT'
                                 and grantee in ('utxoiq_owner'::regrole, 'utxoiq_audit'::regrole, 'utxoiq_drill'::regrole)))
    loop
        execute format('revoke connect, temporary on database %I from %s', current_database(), role);
    end loop;
    if not has_database_privilege('utxoiq_owner', current_database(), 'create') then
        execute format('grant create on database %I to utxoiq_owner', current_database());
    end if;
    foreach role in array array['utxoiq_owner', 'utxoiq_audit'] loop
        if not has_schema_privilege(role, 'public', 'create') then
            execute format('grant create on schema public to %I', role);
        end if;
    end loop;
    -- Everybody may look into public, and before version 15 create in it.
    if exists (select from pg_namespace, aclexplode(nspacl) where nspname = 'public' and grantee = 0) then
        revoke all on schema public from public;
    end if;
    -- GRANT and REVOKE only warn when they could do nothing.
    if not has_database_privilege('utxoiq_owner', current_database(), 'create')
        or not has_schema_privilege('utxoiq_owner', 'public', 'create')
        or not has_schema_privilege('utxoiq_audit', 'public', 'create')
        or exists (select from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
                   where datname = current_database() and grantee = 0)
        or exists (select from pg_namespace, aclexplode(nspacl) where nspname = 'public' and grantee = 0)
    then
        raise insufficient_privilege using
            message = format('%s may not grant rights on the database %s', current_user, current_database()),
            hint = 'run this as the owner of the database, or as a superuser';
    end if;
    -- REVOKE takes away what the database's owner granted, and nothing that another one passed on. The drill's role has what
    -- both owners have, and what every role has that it is a member of.
    if (select datdba <> 'utxoiq_drill'::regrole from pg_database where datname = current_database())
        and has_database_privilege('utxoiq_drill', current_database(), 'connect')
    then
        raise insufficient_privilege using
            message = format('utxoiq_drill may still connect to the database %s%s', current_database(), (
                select ': ' || string_agg(format('%s was granted that by %s', grantee::regrole, grantor::regrole), ', ')
                from pg_database, aclexplode(datacl)
                where datname = current_database() and privilege_type = 'CONNECT' and grantee <> 0
                    and pg_has_role('utxoiq_drill', grantee, 'usage'))),
            hint = 'take that away (as who granted it, SET ROLE and REVOKE CONNECT); utxoiq_drill must be no superuser, '
                   'and no member of the role that owns the database';
    end if;
end
$grants$;
commit;
