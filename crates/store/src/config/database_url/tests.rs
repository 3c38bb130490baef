use super::*;

fn read(text: &str) -> DatabaseUrl {
    DatabaseUrl::parse(text, "database.url").unwrap()
}

fn refusal(text: &str) -> String {
    let error = DatabaseUrl::parse(text, "database.url")
        .err()
        .unwrap_or_else(|| panic!("{text} must be refused"));
    assert_eq!(error.code(), "invalid_config");
    assert!(error.message().starts_with("database.url "));
    assert!(!error.message().contains("s3cret"));
    error.message().to_owned()
}

#[test]
fn both_forms_say_what_libpq_has_them_say() {
    for text in [
        "postgresql://ann:s3cret%3F@db.example:6543/utxoiq?sslmode=verify-full&sslrootcert=/a%20b/ca.pem&connect_timeout=3&sslcert=/c&sslkey=/k",
        "host=db.example port=6543 user=ann password='s3cret?' dbname=utxoiq sslmode = verify-full sslrootcert='/a b/ca.pem' connect_timeout=3 sslcert=/c sslkey=/k",
    ] {
        let url = read(text);
        assert_eq!(url.place(), "db.example:6543/utxoiq");
        assert_eq!(url.config().get_password(), Some(b"s3cret?".as_slice()));
        assert_eq!(url.config().get_ssl_mode(), SslMode::Require);
        assert!(url.config().get_connect_timeout().is_some());
        assert_eq!(
            *url.tls(),
            Tls {
                mode: TlsMode::VerifyFull,
                ca_file: Some("/a b/ca.pem".into()),
                identity: Some(("/c".into(), "/k".into())),
            }
        );
        let shown = format!("{url:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("ann"),
            "{shown}"
        );
        assert_eq!(url.with_database("x").place(), "db.example:6543/x");
    }
    // A question mark in a password that nobody escaped is the password's.
    let odd = read("postgresql://ann:s3?sslmode=disable@h/d?sslmode=require");
    assert_eq!(odd.tls().mode, TlsMode::Require);
    for (text, mode) in [
        ("postgresql://h/d", TlsMode::Prefer),
        ("postgresql://h/d?sslrootcert=/ca", TlsMode::VerifyFull),
        ("postgresql://h/d?sslrootcert=system", TlsMode::VerifyFull),
        ("postgresql://h/d?sslmode=require", TlsMode::Require),
        (
            "postgresql://h/d?sslmode=require&sslrootcert=/ca",
            TlsMode::VerifyCa,
        ),
        (
            "postgresql://h/d?sslmode=prefer&sslrootcert=/ca",
            TlsMode::Prefer,
        ),
        (
            "postgresql://u@/d?host=/cloudsql/p:r:i&sslmode=verify-full",
            TlsMode::Disable,
        ),
        ("host=/cloudsql/p:r:i user=u", TlsMode::Disable),
    ] {
        assert_eq!(read(text).tls().mode, mode, "{text}");
    }
    let socket = read("postgresql://u@/d?host=/cloudsql/p:r:i");
    assert_eq!(socket.place(), "/cloudsql/p:r:i:5432/d");
    assert!(socket.stays_on_this_machine());
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    for (text, why) in [
        ("mysql://u:s3cret@h/d", "must look like"),
        ("postgresql://u:s3cret@h/d?sslmode", "must look like"),
        ("host=h password='s3cret", "must look like"),
        ("postgresql://u:s3cret@h/d?sslmode=allow", "sslmode"),
        ("postgresql://u:s3cret@h/d?sslmode=verify-ca", "sslrootcert"),
        (
            "postgresql://u:s3cret@h/d?sslmode=verify-ca&sslrootcert=system",
            "sslrootcert",
        ),
        ("postgresql://u:s3cret@h/d?sslcert=/c", "sslkey"),
        ("postgresql://h/d?sslmode=require&host=/s", "sockets"),
        ("hostaddr=10.0.0.1 user=u sslmode=verify-full", "hostaddr"),
        (
            "postgresql://u:s3cret@h/d?password_source=file:/p",
            "leave one",
        ),
        (
            "postgresql://u@h/d?password_source=file:p",
            "password_source",
        ),
        (
            "postgresql://u@h/d?password_source=http://h/token",
            "password_source",
        ),
        (
            "postgresql://u@h/d?password_source=https://a:s3cret@h/token",
            "password_source",
        ),
        (
            "postgresql://u@h/d?password_source=gcp_metadata",
            "to whoever answers",
        ),
        (
            "postgresql://u@h/d?password_source=gcp_metadata&sslmode=prefer",
            "to whoever answers",
        ),
        (
            "postgresql://u@h/d?password_source=gcp_metadata&sslmode=disable",
            "to whoever answers",
        ),
        (
            "postgresql://u@h/d?password_source=gcp_metadata&sslmode=require",
            "to whoever answers",
        ),
        (
            "postgresql://u@h/d?password_source=https://t/token&sslmode=require&sslrootcert=system",
            "to whoever answers",
        ),
        (
            "host=localhost hostaddr=10.0.0.1 user=u password_source=gcp_metadata",
            "to whoever answers",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(why), "{text}: {message}");
    }
    for text in [
        "postgresql://u@h/d?password_source=gcp_metadata&sslmode=verify-full",
        "postgresql://u@h/d?password_source=gcp_metadata&sslmode=verify-ca&sslrootcert=/ca",
        "postgresql://u@h/d?password_source=gcp_metadata&sslmode=require&sslrootcert=/ca",
        "postgresql://u@127.0.0.1/d?password_source=gcp_metadata&sslmode=require",
        "postgresql://u@127.0.0.1/d?password_source=gcp_metadata",
        "postgresql://u@[::1]/d?password_source=http://127.0.0.1:80/t",
        "postgresql://u@/d?host=/cloudsql/p:r:i&password_source=gcp_metadata",
        "postgresql://u@h/d?password_source=file:/p",
    ] {
        read(text);
    }
}

#[test]
fn settings_are_defaults_of_every_address_and_what_an_address_says_wins() {
    let load = |text: &str, vars: &[(&str, &str)]| {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        crate::config::Loader::default()
            .text(text)
            .and_then(|loader| loader.env(vars))
            .and_then(crate::config::Loader::finish)
            .map(|config| config.database)
    };
    let settings = "[database]\ntls = \"verify-full\"\ntls_ca_file = \"/c a\"\npassword_source = \"file:/p\"\n";
    let database = load(
        settings,
        &[
            ("DATABASE_URL", "postgresql://u@h/d"),
            ("DATABASE_ADMIN_URL", "host=h user=u dbname=d"),
            (
                "UTXOIQ_STORE_DATABASE__RETENTION_URL",
                "postgresql://u:s3cret@h/d?sslmode=disable",
            ),
            (
                "UTXOIQ_STORE_DATABASE__BACKUP_URL",
                "postgresql://u@h/d?sslrootcert=/other",
            ),
            (
                "UTXOIQ_STORE_DATABASE__DRILL_URL",
                "postgresql://u@/d?host=/run",
            ),
        ],
    )
    .unwrap();
    let of = |url: &Option<Secret>| read(url.as_ref().unwrap().expose());
    let file = || PasswordSource::File("/p".into());
    for (url, mode, ca, source) in [
        (&database.url, TlsMode::VerifyFull, "/c a", file()),
        (&database.admin_url, TlsMode::VerifyFull, "/c a", file()),
        (
            &database.retention_url,
            TlsMode::Disable,
            "/c a",
            PasswordSource::Url,
        ),
        (&database.backup_url, TlsMode::VerifyFull, "/other", file()),
        (&database.drill_url, TlsMode::Disable, "/c a", file()),
    ] {
        let url = of(url);
        assert_eq!(url.tls().mode, mode);
        assert_eq!(url.tls().ca_file, Some(ca.into()));
        assert_eq!(*url.password_source(), source);
    }
    let twice = database.completed(database.url().unwrap());
    assert_eq!(twice, database.url().unwrap());
    for (text, name) in [
        ("[database]\ntls = \"verify_full\"", "database.tls"),
        (
            "[database]\ntls_key_file = \"/k\"",
            "database.tls_certificate_file",
        ),
        (
            "[database]\npassword_source = \"s3cret\"",
            "database.password_source",
        ),
    ] {
        let message = load(text, &[]).unwrap_err().to_string();
        assert!(
            message.contains(name) && !message.contains("s3cret"),
            "{message}"
        );
    }
    let backup = [("UTXOIQ_STORE_DATABASE__BACKUP_URL", "mysql://s3cret")];
    assert!(
        load("", &backup)
            .unwrap_err()
            .to_string()
            .contains("database.backup_url")
    );
}

#[test]
fn a_token_is_asked_for_with_a_query_that_nothing_shows() {
    let url =
        read("postgresql://u@[::1]/d?password_source=https://t:8/token%3Fkey=s3cret%23s3cret");
    let PasswordSource::Token(address) = url.password_source() else {
        panic!("{url:?}");
    };
    assert_eq!(address.expose(), "https://t:8/token?key=s3cret#s3cret");
    assert_eq!(address.to_string(), "https://t:8/token");
    let shown = format!("{url:?}");
    assert!(
        shown.contains("https://t:8/token") && !shown.contains("s3cret"),
        "{shown}"
    );
    let own = read("postgresql://u@[::1]/d?password_source=gcp_metadata");
    let PasswordSource::Token(address) = own.password_source() else {
        panic!("{own:?}");
    };
    assert!(
        address
            .expose()
            .ends_with("/token?scopes=https://www.googleapis.com/auth/sqlservice.login")
    );
    let text = "[database]\npassword_source = \"https://t/token?key=s3cret\"";
    let config = crate::config::Loader::default()
        .text(text)
        .and_then(crate::config::Loader::finish)
        .unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}
