//! As much of the Redis protocol (RESP2) as an administrator needs, blocking, on a connection for each call.
//!
//! Not the client that production uses: what breaks the cache must not share its faults.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Long enough for a save; a frozen server is noticed by it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `OK` and the like.
    Status(String),
    /// A refusal, with its first word: `WRONGTYPE …`, `OOM …`.
    Error(String),
    /// A number.
    Integer(i64),
    /// A value.
    Bulk(Vec<u8>),
    /// Several answers.
    Array(Vec<Self>),
    /// No such thing.
    Nil,
}

impl Reply {
    /// The bytes of a value; empty for anything else.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bulk(bytes) => bytes,
            _ => Vec::new(),
        }
    }

    /// The parts of several answers; none for anything else.
    pub fn parts(self) -> Vec<Self> {
        match self {
            Self::Array(parts) => parts,
            _ => Vec::new(),
        }
    }
}

/// A connection that has given its password.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(port: u16, password: &str) -> io::Result<Self> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream: BufReader::new(stream),
        };
        match connection.ask(&[b"AUTH", password.as_bytes()])? {
            Reply::Error(refusal) => Err(io::Error::other(refusal)),
            _ => Ok(connection),
        }
    }

    pub fn ask(&mut self, command: &[&[u8]]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend_from_slice(word);
            request.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&request)?;
        self.read()
    }

    fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).unwrap_or_default();
        match kind {
            "+" => Ok(Reply::Status(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Integer(number(rest)?)),
            "$" => self.read_bulk(number(rest)?),
            "*" => match usize::try_from(number(rest)?) {
                Ok(count) => Ok(Reply::Array(
                    (0..count).map(|_| self.read()).collect::<Result<_, _>>()?,
                )),
                Err(_) => Ok(Reply::Nil),
            },
            _ => Err(io::Error::other(format!("not an answer of Redis: {line}"))),
        }
    }

    fn read_bulk(&mut self, length: i64) -> io::Result<Reply> {
        let Ok(length) = usize::try_from(length) else {
            return Ok(Reply::Nil);
        };
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Reply::Bulk(bytes))
    }
}

fn number(text: &str) -> io::Result<i64> {
    text.parse()
        .map_err(|_| io::Error::other(format!("not a number of Redis: {text}")))
}
