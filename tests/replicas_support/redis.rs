//! A `redis-server` of a story's own, and a client of a few lines: RESP by hand, one connection per command, so that it
//! shares nothing with the client the proxy uses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::eventually;
use super::process::{Process, free_port};

const UNPOISONED: &str = "nobody panics while holding it";

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A simple or bulk string.
    Text(String),
    /// A refusal.
    Error(String),
    /// A number.
    Int(i64),
    /// Nothing there.
    Nil,
    /// Several.
    List(Vec<Word>),
}

impl Word {
    /// A text that must be one.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("not a text: {other:?}"),
        }
    }

    /// A number that must be one.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(int) => *int,
            other => panic!("not a number: {other:?}"),
        }
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(words) => words.iter().map(Word::text).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }
}

/// A Redis server without persistence: started anew, it is empty.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens.
    pub port: u16,
    /// Dropped before its directory, which holds the log it shows.
    process: Option<Process>,
    dir: TempDir,
    arguments: Vec<String>,
    password: Mutex<Option<String>>,
}

impl Redis {
    /// One that runs.
    pub async fn start() -> Self {
        let mut redis = Self::down();
        redis.revive().await;
        redis
    }

    /// One that wants a password.
    pub async fn guarded(password: &str) -> Self {
        let mut redis = Self::down();
        *redis.password.lock().expect(UNPOISONED) = Some(password.to_owned());
        redis.arguments = ["--requirepass", password].map(str::to_owned).to_vec();
        redis.revive().await;
        redis
    }

    /// One that is started with these arguments as well.
    pub async fn with(arguments: &[&str]) -> Self {
        let mut redis = Self::down();
        redis.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        redis.revive().await;
        redis
    }

    /// One that does not run yet.
    pub fn down() -> Self {
        let dir = TempDir::new().expect("a directory of the story's");
        Self { port: free_port(), dir, arguments: Vec::new(), password: Mutex::default(), process: None }
    }

    /// Where clients find it; a password stands nowhere in it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it (again), and waits until it answers.
    pub async fn revive(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.current_dir(self.dir.path()).args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--rdbcompression", "no", "--repl-diskless-sync-delay", "0"]);
        command.args(&self.arguments);
        self.process = Some(Process::start("redis-server", &mut command, &self.dir.path().join("log")));
        eventually("Redis to answer", async || match self.ask(&["PING"]).await {
            Ok(Word::Text(pong)) => pong == "PONG",
            _ => false,
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// SIGSTOP: it takes connections, and answers nothing.
    pub fn stop(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::CONT);
    }

    /// A command that must be answered, and not refused.
    pub async fn command(&self, words: &[&str]) -> Word {
        match self.ask(words).await {
            Ok(Word::Error(error)) => panic!("{words:?}: {error}"),
            Ok(word) => word,
            Err(error) => panic!("{words:?}: {error}"),
        }
    }

    /// A command that must be answered, be it with a refusal.
    pub async fn try_command(&self, words: &[&str]) -> Word {
        self.ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Whether it is a master. One that is just being promoted drops its clients: then it is none yet.
    pub async fn is_master(&self) -> bool {
        self.ask(&["INFO", "replication"]).await.is_ok_and(|info| info.text().contains("role:master"))
    }

    /// Wants another password from now on.
    pub async fn change_password(&self, password: &str) {
        self.command(&["CONFIG", "SET", "requirepass", password]).await;
        *self.password.lock().expect(UNPOISONED) = Some(password.to_owned());
    }

    /// All keys that match.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        self.command(&["KEYS", pattern]).await.texts().into_iter().map(str::to_owned).collect()
    }

    /// Everything it holds, as bytes: its dump, uncompressed.
    pub async fn dump(&self) -> Vec<u8> {
        self.command(&["SAVE"]).await;
        std::fs::read(self.dump_path()).expect("a dump")
    }

    /// Becomes a copy of `master`, and waits until it is one.
    pub async fn follow(&self, master: &Redis) {
        self.command(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]).await;
        eventually("the replica to be in step", async || {
            self.command(&["INFO", "replication"]).await.text().contains("master_link_status:up")
        })
        .await;
    }

    /// Takes the place of `dead`, with what was last [dumped](Self::dump) here.
    pub async fn take_over(&mut self, dead: &Redis) {
        assert!(dead.process.is_none(), "there is one at this port");
        self.kill();
        self.port = dead.port;
        self.revive().await;
    }

    fn dump_path(&self) -> PathBuf {
        Path::new(self.dir.path()).join("dump.rdb")
    }

    async fn ask(&self, words: &[&str]) -> std::io::Result<Word> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
        let password = self.password.lock().expect(UNPOISONED).clone();
        if let Some(password) = &password {
            stream.write_all(&request(&["AUTH", password])).await?;
            read(&mut stream).await?;
        }
        stream.write_all(&request(words)).await?;
        read(&mut stream).await
    }
}

fn request(words: &[&str]) -> Vec<u8> {
    let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let words: Vec<_> = words.collect();
    format!("*{}\r\n{}", words.len(), words.concat()).into_bytes()
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Word> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    let number = || rest.parse::<i64>().expect("a number");
    Ok(match kind {
        "+" => Word::Text(rest.to_owned()),
        "-" => Word::Error(rest.to_owned()),
        ":" => Word::Int(number()),
        "$" | "*" if number() < 0 => Word::Nil,
        "$" => {
            let length = usize::try_from(number()).expect("a length");
            let mut text = vec![0; length + 2];
            stream.read_exact(&mut text).await?;
            Word::Text(String::from_utf8_lossy(&text[..length]).into_owned())
        }
        "*" => {
            let mut words = Vec::new();
            for _ in 0..number() {
                words.push(Box::pin(read(stream)).await?);
            }
            Word::List(words)
        }
        _ => panic!("Redis said {line:?}"),
    })
}
