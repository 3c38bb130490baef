//! A service that has all that commands may ask for: an administrator's connection, a store of backups with its keys, a
//! database to prove on, and an empty one to restore into.

use std::{fs, process::Output};

use crate::support::{BINARY, PASSWORD, Service};

pub struct Furnished {
    pub service: Service,
    /// What the service's own environment has not.
    variables: Vec<(String, String)>,
}

impl Furnished {
    /// A service with these variables of the environment, furnished.
    pub async fn new(variables: &[(&str, &str)]) -> Self {
        let service = Service::start_in(variables, &[]).await;
        let admin = service.admin().await;
        let roles = format!(
            "alter role utxoiq_backup password '{PASSWORD}'; alter role utxoiq_drill password '{PASSWORD}'"
        );
        for sql in [
            &*roles,
            "create database elsewhere",
            "create database restored",
        ] {
            admin.batch_execute(sql).await.unwrap();
        }
        let mut keys = Vec::new();
        for _ in 0..2 {
            keys.push(service.json(&["backup", "keygen", "--json"]).await);
        }
        let key = |index: usize, name: &str| keys[index][name].as_str().unwrap().to_owned();
        fs::create_dir(service.path("backups")).unwrap();
        let cluster = &service.cluster;
        let drill = |database: &str| cluster.url("utxoiq_drill", PASSWORD, database);
        let variables = [
            ("DATABASE_ADMIN_URL", cluster.admin_url("postgres")),
            (
                "UTXOIQ_STORE_DATABASE__BACKUP_URL",
                cluster.url("utxoiq_backup", PASSWORD, "postgres"),
            ),
            ("UTXOIQ_STORE_DATABASE__DRILL_URL", drill("elsewhere")),
            ("UTXOIQ_STORE_DATABASE__REGION", "europe-west1".to_owned()),
            (
                "UTXOIQ_STORE_BACKUP_STORE__URL",
                format!("file://{}", service.path("backups").display()),
            ),
            (
                "UTXOIQ_STORE_BACKUP__RECOVERY_RECIPIENT",
                key(0, "recipient"),
            ),
            ("UTXOIQ_STORE_BACKUP__DRILL_RECIPIENT", key(1, "recipient")),
            ("UTXOIQ_STORE_BACKUP__DRILL_IDENTITY", key(1, "identity")),
            ("RESTORE_URL", drill("restored")),
            ("RESTORE_KEY", key(0, "identity")),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        let restored = cluster.admin_url("restored");
        let (code, told) = service
            .run_with(&[("DATABASE_ADMIN_URL", &restored)], &["init"])
            .await;
        assert_eq!(code, 0, "{told}");
        admin
            .batch_execute("grant connect on database restored to utxoiq_drill")
            .await
            .unwrap();
        Self {
            service,
            variables: variables.to_vec(),
        }
    }

    /// One more variable of the environment.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
    }

    /// Runs lines of bash in the service's folder, which end with the first that fails; `$0` is the binary.
    pub async fn shell(&self, lines: &str) -> Output {
        // A session of its own has no terminal that somebody could be asked on.
        tokio::process::Command::new("setsid")
            .args(["--wait", "bash", "-e", "-o", "pipefail", "-O"])
            .args(["expand_aliases", "-c", lines, BINARY])
            .current_dir(self.service.folder.path())
            .envs(self.service.envs_with(&self.variables))
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    }
}
