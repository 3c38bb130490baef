//! Every right is written down, and every one that is written down is there.

use std::collections::BTreeSet;

use utxoiq_store::db::roles;

use super::fort::Fort;

const BOOK: &str = include_str!("../../../../../docs/operations/roles.md");

/// Who, on what, which right.
type Grant = (String, String, String);

/// Every right that somebody else than the owner has: on relations, columns, functions, types, the schema, the database,
/// and in roles. What belongs to PostgreSQL or to an extension is not ours.
const GRANTED: &str = r"
    with ours as (
        select c.oid, c.relowner, c.relacl, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
               regexp_replace(c.relname, '^system_metrics_[0-9]{8}$', 'system_metrics_*') as name
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema')
    select distinct case grantee when 0 then 'PUBLIC' else grantee::regrole::text end as who, object, lower(privilege) as privilege
    from (select grantee, kind || ' ' || name as object, privilege_type as privilege from ours, aclexplode(relacl) where grantee <> relowner
          union all
          select grantee, kind || ' ' || name, format('%s (%s)', privilege_type, attname)
          from ours join pg_attribute on attrelid = ours.oid, aclexplode(attacl) where grantee <> relowner
          union all
          select grantee, 'function ' || proname, privilege_type
          from pg_proc p join pg_namespace n on n.oid = pronamespace, aclexplode(coalesce(proacl, acldefault('f', proowner)))
          where grantee <> proowner and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
                and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
          union all
          select grantee, 'type ' || typname, privilege_type from pg_type, aclexplode(typacl)
          where grantee <> typowner and typnamespace = 'public'::regnamespace
          union all
          select grantee, 'schema ' || nspname, privilege_type
          from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
          where grantee <> nspowner and nspname !~ '^pg_' and nspname <> 'information_schema'
          union all
          select grantee, 'database', privilege_type
          from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
          where grantee <> datdba and datname = current_database()
          union all
          select grantee, 'what ' || defaclrole::regrole || ' makes later', privilege_type
          from pg_default_acl, aclexplode(defaclacl) where grantee <> defaclrole
          union all
          select member, 'role ' || roleid::regrole, right_of_it
          from pg_auth_members,
               unnest(array['become', case when pg_has_role(member, roleid, 'usage') then 'inherit' end,
                            case when admin_option then 'administer' end]) right_of_it
          where right_of_it is not null and member::regrole::text !~ '^pg_') as granted";

/// The names in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// `select, update (a, b)` one by one, with each column.
fn privileges(cell: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = cell.trim();
    while !rest.is_empty() {
        let end = rest.find([',', '(']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        if rest[end..].starts_with('(') {
            let close = rest.find(')').unwrap();
            for column in quoted(&rest[end..close]) {
                all.push(format!("{name} ({column})"));
            }
            rest = &rest[close + 1..];
        } else {
            all.push(name.to_owned());
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches([',', ' ']);
    }
    all
}

/// The rights that the document's table names.
fn written() -> BTreeSet<Grant> {
    let section = BOOK.split("\n## Every grant\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut all = BTreeSet::new();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [who, objects, may, _why] = cells[..] else {
            panic!("this row has not four cells: {row}");
        };
        for object in objects.split(", ") {
            for privilege in privileges(may) {
                let grant = (quoted(who).remove(0), object.replace('`', ""), privilege);
                assert!(all.insert(grant.clone()), "{grant:?} is written twice");
            }
        }
    }
    all
}

/// What anybody may, by the catalogue.
pub async fn granted(fort: &Fort) -> BTreeSet<Grant> {
    let rows = fort.admin.query(GRANTED, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

fn assert_written(granted: &BTreeSet<Grant>) {
    let written = written();
    let lines = |these: BTreeSet<&Grant>| -> Vec<String> {
        let line = |grant: &&Grant| format!("{}: {} on {}", grant.0, grant.2, grant.1);
        these.iter().map(line).collect()
    };
    let unwritten = lines(granted.difference(&written).collect());
    let missing = lines(written.difference(granted).collect());
    assert!(
        unwritten.is_empty() && missing.is_empty(),
        "docs/operations/roles.md differs from the database\nnot written there: {unwritten:#?}\nnot granted: {missing:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_in_the_documents_table_and_every_one_of_that_is_granted() {
    let fort = Fort::build().await;
    let at_first = granted(&fort).await;
    assert!(at_first.len() > 200, "{}", at_first.len());
    assert_written(&at_first);
    // A database that was served from before: everything that `init` takes away was there.
    let before = "grant connect, temporary on database app to public, utxoiq_owner, utxoiq_drill; grant all on schema public to public";
    fort.admin.batch_execute(before).await.unwrap();
    assert_ne!(granted(&fort).await, at_first);
    let doors = roles::open_doors(&fort.admin_url()).await.unwrap();
    assert_eq!(doors.len(), 2, "{doors:?}");
    roles::init(&fort.admin_url()).await.unwrap();
    assert_eq!(granted(&fort).await, at_first);
    let doors = roles::open_doors(&fort.admin_url()).await.unwrap();
    assert!(doors.is_empty(), "{doors:?}");
}

/// `init` cannot take away what somebody else has passed on, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_way_in_for_the_role_that_restores_that_another_role_granted_fails_init() {
    let fort = Fort::build().await;
    let pass_on = "create role another; grant connect on database app to another with grant option";
    fort.admin.batch_execute(pass_on).await.unwrap();
    for role in [roles::DRILL, roles::OWNER, roles::AUDIT] {
        let grant =
            format!("set role another; grant connect on database app to {role}; reset role");
        fort.admin.batch_execute(&grant).await.unwrap();
        let refused = roles::init(&fort.admin_url()).await.unwrap_err();
        let said = format!("{role} was granted that by another");
        assert!(refused.to_string().contains(&said), "{refused}");
        fort.admin
            .batch_execute(
                &grant
                    .replace("grant connect", "revoke connect")
                    .replace(" to ", " from "),
            )
            .await
            .unwrap();
        roles::init(&fort.admin_url()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_attributes_and_functions_are_as_they_have_to_be() {
    let fort = Fort::build().await;
    let none = async |what: &str, sql: &str| {
        let found = fort.texts(sql).await;
        assert!(found.is_empty(), "{what}: {found:?}");
    };
    none(
        "no role of ours may do what administrators may, and none but the drill's makes databases",
        "select rolname::text from pg_roles where rolname like 'utxoiq%'
         and (rolsuper or rolcreaterole or rolreplication or rolbypassrls or rolcreatedb <> (rolname = 'utxoiq_drill'))",
    )
    .await;
    none(
        "the owners do not log in",
        "select rolname::text from pg_roles where rolname in ('utxoiq_owner', 'utxoiq_audit') and rolcanlogin",
    )
    .await;
    none(
        "everything belongs to one of the owners, and the audit log to its own",
        "select oid::regclass::text from pg_class c
         where relnamespace = 'public'::regnamespace
           and relowner <> case when relname ~ '^audit_' then 'utxoiq_audit' else 'utxoiq_owner' end::regrole
         union all
         select oid::regprocedure::text from pg_proc p
         where pronamespace = 'public'::regnamespace
           and proowner <> case when proname ~ '^audit_' then 'utxoiq_audit' else 'utxoiq_owner' end::regrole
           and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')",
    )
    .await;
    none(
        "no database belongs to a role of ours",
        "select datname::text from pg_database where datdba::regrole::text like 'utxoiq%'",
    )
    .await;
    none(
        "a function with its owner's rights looks into public and, at last, into nothing of its caller's",
        "select oid::regprocedure::text from pg_proc
         where prosecdef and pronamespace = 'public'::regnamespace
           and not 'search_path=public, pg_temp' = any (coalesce(proconfig, '{}'))",
    )
    .await;
    none(
        "everybody may call nothing of ours",
        "select oid::regprocedure::text from pg_proc p
         where pronamespace = 'public'::regnamespace and has_function_privilege('public', oid, 'execute')
           and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')",
    )
    .await;
    none(
        "row security would hide rows from the backup",
        "select oid::regclass::text from pg_class where relrowsecurity",
    )
    .await;
    let definer = "select count(*)::text from pg_proc where prosecdef and pronamespace = 'public'::regnamespace";
    assert!(fort.texts(definer).await[0].parse::<i32>().unwrap() > 40);
    // What is made later starts without rights of everybody, too.
    for owner in [roles::OWNER, roles::AUDIT] {
        let make = format!(
            "set role {owner}; create function later() returns int language sql as 'select 1'; reset role"
        );
        fort.admin.batch_execute(&make).await.unwrap();
        none(
            "a later function",
            "select oid::regprocedure::text from pg_proc where proname = 'later' and has_function_privilege('public', oid, 'execute')",
        )
        .await;
        fort.admin
            .batch_execute("drop function later()")
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_restores_has_no_power_over_the_database_that_is_served_from() {
    let fort = Fort::build().await;
    let before = fort.content().await;
    let refused = tokio_postgres::connect(&fort.url(roles::DRILL), tokio_postgres::NoTls).await;
    let error = refused.err().expect("it comes in");
    assert!(
        error
            .as_db_error()
            .is_some_and(|error| error.message().contains("permission denied for database")),
        "{error:?}"
    );
    let rights = fort.rights().await;
    let drill = crate::support::connect(&fort.beside(roles::DRILL)).await;
    for sql in [
        "drop database app",
        "alter database app allow_connections false",
        "alter database app set default_transaction_read_only = on",
        "alter database app rename to gone",
        "alter database app owner to utxoiq_drill",
        "alter database app owner to utxoiq_owner",
        "create database copy template app",
        "alter role utxoiq_owner login",
        "alter role utxoiq_owner password 'x'",
        "alter role utxoiq_app password 'x'",
        "grant utxoiq_owner to utxoiq_app",
        "grant utxoiq_app to utxoiq_drill",
        "drop role utxoiq_owner",
        "reassign owned by utxoiq_app to utxoiq_drill",
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'app'",
    ] {
        let error = drill.batch_execute(sql).await.expect_err(sql);
        assert_eq!(
            error.code(),
            Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE),
            "{sql}: {error:?}"
        );
    }
    // Nothing happens, with a warning.
    for sql in [
        "grant connect on database app to utxoiq_drill",
        "set role utxoiq_owner; grant connect on database app to utxoiq_drill; reset role",
    ] {
        let _ = drill.batch_execute(sql).await;
        let _ = drill.batch_execute("reset role").await;
    }
    assert_eq!(fort.rights().await, rights);
    assert_eq!(fort.content().await, before);
}
