//! A mail server in this process: it takes mails without TLS and records them, and may refuse them or hang.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A mail that was taken.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    /// Whom it is from, on the envelope.
    pub from: String,
    /// Whom it is to, on the envelope.
    pub to: Vec<String>,
    /// Its head and body, as sent.
    pub data: String,
}

#[derive(Default)]
struct Behaviour {
    mails: Vec<Mail>,
    refusing: usize,
    refused_address: Option<String>,
    hangs: bool,
    logins: Vec<String>,
}

type Shared = Arc<Mutex<Behaviour>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Behaviour> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mail server on a free port of 127.0.0.1, until it is dropped.
pub struct Mailbox {
    address: SocketAddr,
    shared: Shared,
    _serving: JoinSet<()>,
}

impl Mailbox {
    /// One that takes everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("there is a free port");
        let address = listener.local_addr().expect("it has an address");
        let shared = Shared::default();
        let mut serving = JoinSet::new();
        let state = Arc::clone(&shared);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(speak(stream, Arc::clone(&state)));
            }
        });
        Self {
            address,
            shared,
            _serving: serving,
        }
    }

    /// Its address, for a user with a password.
    pub fn url(&self, user: &str, password: &str) -> String {
        format!("smtp://{user}:{password}@{}", self.address)
    }

    /// The next so many mails get 451 after they were sent.
    pub fn refuse(&self, mails: usize) {
        lock(&self.shared).refusing = mails;
    }

    /// Mails to this address are refused, or to none.
    pub fn refuse_address(&self, address: Option<&str>) {
        lock(&self.shared).refused_address = address.map(str::to_owned);
    }

    /// From now on connections get no answer, or get one again.
    pub fn hang(&self, hangs: bool) {
        lock(&self.shared).hangs = hangs;
    }

    /// What was taken.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.shared).mails.clone()
    }

    /// What clients sent to log in.
    pub fn logins(&self) -> Vec<String> {
        lock(&self.shared).logins.clone()
    }
}

/// One connection, until its end.
async fn speak(stream: TcpStream, shared: Shared) {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    if lock(&shared).hangs {
        std::future::pending::<()>().await;
    }
    let mut mail = Mail::default();
    let mut answer = "220 here\r\n".to_owned();
    loop {
        if writing.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let Ok(Some(line)) = lines.next_line().await else {
            return;
        };
        let word = line.split([' ', ':']).next().unwrap_or_default();
        answer = match word.to_uppercase().as_str() {
            "EHLO" => "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n".to_owned(),
            "AUTH" => {
                lock(&shared).logins.push(line.clone());
                "235 welcome\r\n".to_owned()
            }
            "MAIL" => {
                mail.from = address(&line);
                "250 ok\r\n".to_owned()
            }
            "RCPT" => {
                let to = address(&line);
                let is_refused = lock(&shared).refused_address.as_deref() == Some(to.as_str());
                mail.to.push(to);
                let answers = ["250 ok\r\n", "550 no such mailbox\r\n"];
                answers[usize::from(is_refused)].to_owned()
            }
            "DATA" => {
                if writing.write_all(b"354 go on\r\n").await.is_err() {
                    return;
                }
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "." {
                        break;
                    }
                    mail.data.push_str(&line);
                    mail.data.push('\n');
                }
                taken(&shared, std::mem::take(&mut mail)).to_owned()
            }
            "QUIT" => {
                let _ = writing.write_all(b"221 bye\r\n").await;
                return;
            }
            _ => "500 what\r\n".to_owned(),
        };
    }
}

/// Takes a mail or refuses it.
fn taken(shared: &Shared, mail: Mail) -> &'static str {
    let mut behaviour = lock(shared);
    if behaviour.refusing > 0 {
        behaviour.refusing -= 1;
        return "451 not now\r\n";
    }
    behaviour.mails.push(mail);
    "250 taken\r\n"
}

/// What stands between angle brackets.
fn address(line: &str) -> String {
    let inside = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or(String::new(), |(address, _)| address.to_owned())
}
