//! Breaking what a Redis holds: evicted, flushed, overwritten, and put back to an earlier state.

use std::fs;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use super::wire::{Connection, Reply};
use super::{RedisServer, Server};

/// The dump that Redis reads when it starts, and where [`RedisServer::save`] keeps it until it is asked for.
const DUMP: &str = "dump.rdb";
const SAVED: &str = "saved.rdb";

impl RedisServer {
    /// Asks the server itself, past any proxy, and panics when it does not answer at all (a frozen one, after 20
    /// seconds); what it refuses is a [`Reply::Error`].
    pub async fn ask(&self, command: &[&str]) -> Reply {
        let command: Vec<Vec<u8>> = command
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        self.with_connection(move |connection| ask(connection, &command))
            .await
    }

    /// All keys, sorted.
    pub async fn keys(&self) -> Vec<Vec<u8>> {
        self.with_connection(keys).await
    }

    /// Removes everything (FLUSHALL).
    pub async fn flush(&self) {
        self.ask(&["FLUSHALL"]).await;
    }

    /// Removes about half of the keys, chosen by the seed; tells how many.
    pub async fn remove_some(&self, seed: u64) -> usize {
        self.with_connection(move |connection| {
            let mut random = StdRng::seed_from_u64(seed);
            let mut removed = 0;
            for key in keys(connection) {
                if random.random_bool(0.5) {
                    ask(connection, &[b"DEL".to_vec(), key]);
                    removed += 1;
                }
            }
            removed
        })
        .await
    }

    /// Evicts everything and, since even an empty server exceeds the limit, refuses new values (`OOM …`) until
    /// [`grow`](Self::grow). Removing keys and reading them still work.
    pub async fn shrink(&self) {
        self.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"])
            .await;
        self.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    }

    /// No limit of memory any more.
    pub async fn grow(&self) {
        self.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    }

    /// Overwrites the value of every key, as a program with a fault (or of another version) would: with random bytes, with
    /// text that almost parses, with nothing, with a number, or with a value of another type. Tells how many there were.
    /// Times to live stay.
    pub async fn fill_with_garbage(&self, seed: u64) -> usize {
        self.with_connection(move |connection| {
            let mut random = StdRng::seed_from_u64(seed);
            let keys = keys(connection);
            for key in &keys {
                overwrite(connection, key, &mut random);
            }
            keys.len()
        })
        .await
    }

    /// Keeps a copy of the present data for [`start_again_with_saved`](Self::start_again_with_saved). Other starts
    /// stay empty.
    pub async fn save(&self) {
        self.with(|server| {
            let reply = ask(&mut server.connection(), &[b"SAVE".to_vec()]);
            assert_eq!(reply, Reply::Status("OK".to_owned()), "Redis did not save");
            let dir = server.dir.path();
            fs::rename(dir.join(DUMP), dir.join(SAVED)).expect("cannot keep the dump");
        })
        .await;
    }

    /// Starts it again after [`kill9`](Self::kill9) with the data it had at the last [`save`](Self::save), as a server
    /// does that writes its data to disk now and then.
    pub async fn start_again_with_saved(&self) {
        self.with(|server| {
            assert!(server.process.is_none(), "Redis runs already");
            let dir = server.dir.path().to_owned();
            fs::copy(dir.join(SAVED), dir.join(DUMP)).expect("call `save` first");
            server.start_on_same_port();
            // It answers PING only when it has read the dump.
            let reply = ask(&mut server.connection(), &[b"PING".to_vec()]);
            assert_eq!(
                reply,
                Reply::Status("PONG".to_owned()),
                "the dump was not read"
            );
            fs::remove_file(dir.join(DUMP)).expect("cannot remove the dump");
        })
        .await;
    }

    async fn with_connection<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> T {
        self.with(|server| work(&mut server.connection())).await
    }
}

impl Server {
    fn connection(&self) -> Connection {
        Connection::open(self.port, &self.password).expect("cannot connect to Redis")
    }
}

fn ask(connection: &mut Connection, command: &[Vec<u8>]) -> Reply {
    let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    connection.ask(&words).expect("Redis does not answer")
}

fn keys(connection: &mut Connection) -> Vec<Vec<u8>> {
    let reply = ask(connection, &[b"KEYS".to_vec(), b"*".to_vec()]);
    let mut keys: Vec<Vec<u8>> = reply.parts().into_iter().map(Reply::bytes).collect();
    keys.sort();
    keys
}

fn overwrite(connection: &mut Connection, key: &[u8], random: &mut StdRng) {
    let set = |value: Vec<u8>| vec![b"SET".to_vec(), key.to_vec(), value, b"KEEPTTL".to_vec()];
    let command = match random.random_range(0..6) {
        0 => set(Vec::new()),
        1 => set(b"{\"total_ratings\":".to_vec()),
        2 => set(b"7".to_vec()),
        3 => {
            // Another type keeps no time to live by itself; it gets a long one.
            ask(connection, &[b"DEL".to_vec(), key.to_vec()]);
            let words: [&[u8]; 4] = [b"HSET", key, b"field", b"value"];
            ask(connection, &words.map(<[u8]>::to_vec));
            let words: [&[u8]; 3] = [b"EXPIRE", key, b"3600"];
            words.map(<[u8]>::to_vec).to_vec()
        }
        _ => {
            let length = *[1, 16, 64, 300].choose(random).expect("not empty");
            let mut bytes = vec![0; length];
            random.fill_bytes(&mut bytes);
            set(bytes)
        }
    };
    ask(connection, &command);
}
