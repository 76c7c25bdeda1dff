//! The connection to Redis: one server, the master that sentinels name, or a cluster.
//!
//! Commands of many tasks share one connection; answers are matched to them in order by its own task, so a caller
//! that stops waiting takes nothing from anybody. A command that takes too long, or a broken connection, gives the
//! connection up: what was on its way may or may not have happened, and nobody here assumes either.
//!
//! Not here: when to connect again (`keeper`).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, RedisError, RedisResult, TlsCertificates, TlsMode, Value,
};
use tokio::sync::watch;

use crate::config::{self, Topology};

/// Why something could not be had from Redis.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// There is no connection.
    #[error("not connected")]
    Away,
    /// No connection could be made, or it broke.
    #[error("{0}")]
    Connect(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Redis refused: a wrong password, no permission, a read-only replica, no memory.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    /// The metric's label.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Away | Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<RedisError> for Trouble {
    /// Only what the client or the server itself calls the error: never a command, which may hold events.
    fn from(error: RedisError) -> Self {
        let text =
            error.code().map_or_else(|| error.category().to_owned(), |code| format!("{} ({code})", error.category()));
        if error.is_timeout() {
            Self::Timeout
        } else if error.is_io_error() || error.is_connection_dropped() || error.is_connection_refusal() {
            Self::Connect(text)
        } else {
            Self::Refused(text)
        }
    }
}

/// An open connection.
#[derive(Clone)]
pub(super) enum Conn {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The way to Redis.
pub(super) struct Link {
    way: Way,
    timeout: Duration,
    conn: watch::Sender<Option<Conn>>,
}

enum Way {
    One(Box<Client>),
    Sentinel(tokio::sync::Mutex<redis::sentinel::SentinelClient>),
    /// And its nodes one by one, for what every node hears.
    Cluster(redis::cluster::ClusterClient, Vec<Client>),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Link {
    /// A way that was not gone yet.
    ///
    /// # Errors
    /// When a certificate cannot be read, or the client does not take the address.
    pub(super) fn new(settings: &config::Redis) -> io::Result<Self> {
        let way = way(settings).map_err(|error| match error {
            Bad::File(error) => error,
            Bad::Client(error) => io::Error::other(error.category().to_owned()),
        })?;
        Ok(Self { way, timeout: settings.timeout, conn: watch::Sender::new(None) })
    }

    pub(super) fn is_up(&self) -> bool {
        self.conn.borrow().is_some()
    }

    /// Waits until there is a connection.
    pub(super) async fn until_up(&self) {
        let mut state = self.conn.subscribe();
        let _ = state.wait_for(Option::is_some).await;
    }

    /// Waits until there is none.
    pub(super) async fn until_down(&self) {
        let mut state = self.conn.subscribe();
        let _ = state.wait_for(Option::is_none).await;
    }

    /// A new connection; not yet used by [`ask`](Self::ask).
    pub(super) async fn connect(&self) -> Result<Conn, Trouble> {
        let connecting = async {
            Ok::<_, RedisError>(match &self.way {
                Way::One(client) => {
                    Conn::One(client.get_multiplexed_async_connection_with_config(&self.config()).await?)
                }
                Way::Sentinel(client) => {
                    let master = client.lock().await.async_get_client().await?;
                    Conn::One(master.get_multiplexed_async_connection_with_config(&self.config()).await?)
                }
                Way::Cluster(client, _) => Conn::Cluster(client.get_async_connection().await?),
            })
        };
        Ok(tokio::time::timeout(self.timeout, connecting).await.map_err(|_| Trouble::Timeout)??)
    }

    /// A connection to subscribe with.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, Trouble> {
        let clients = match &self.way {
            Way::One(client) => vec![Client::clone(client)],
            Way::Cluster(_, nodes) => nodes.clone(),
            Way::Sentinel(client) => {
                let master = async { client.lock().await.async_get_client().await };
                vec![tokio::time::timeout(self.timeout, master).await.map_err(|_| Trouble::Timeout)??]
            }
        };
        let mut trouble = Trouble::Away;
        for client in clients {
            let connecting = async {
                let mut heard = client.get_async_pubsub().await?;
                heard.subscribe(channel).await?;
                Ok::<_, RedisError>(heard)
            };
            match tokio::time::timeout(self.timeout, connecting).await {
                Ok(Ok(heard)) => return Ok(heard),
                Ok(Err(error)) => trouble = error.into(),
                Err(_) => trouble = Trouble::Timeout,
            }
        }
        Err(trouble)
    }

    /// From here on commands go over `conn`.
    pub(super) fn set(&self, conn: Conn) {
        self.conn.send_replace(Some(conn));
    }

    /// Gives the connection up.
    pub(super) fn hang_up(&self, trouble: &Trouble) {
        if self.conn.send_replace(None).is_some() {
            tracing::warn!(kind = trouble.kind(), cause = %trouble, "the connection to Redis is given up");
        }
    }

    /// Asks `commands` at once. An answer stands where its command stood; one that Redis refused is an error there.
    ///
    /// # Errors
    /// When there is no connection or none any more; then nobody knows which commands were carried out.
    pub(super) async fn ask(&self, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, Trouble> {
        let conn = self.conn.borrow().clone().ok_or(Trouble::Away)?;
        let answers = self.ask_over(conn, commands).await;
        if let Err(trouble) = &answers {
            self.hang_up(trouble);
        }
        answers
    }

    /// The same over a connection of the caller's.
    pub(super) async fn ask_over(&self, conn: Conn, commands: Vec<Cmd>) -> Result<Vec<RedisResult<Value>>, Trouble> {
        let answers =
            tokio::time::timeout(self.timeout, send(conn, commands)).await.map_err(|_| Trouble::Timeout)??;
        // A connection that broke under a cluster's hands shows in a single answer.
        match answers.iter().find_map(|answer| answer.as_ref().err().filter(|error| is_broken(error))) {
            Some(error) => Err(error.clone().into()),
            None => Ok(answers),
        }
    }

    /// One command whose refusal is an error, too.
    pub(super) async fn ask_one(&self, command: Cmd) -> Result<Value, Trouble> {
        let answers = self.ask(vec![command]).await?;
        Ok(answers.into_iter().next().unwrap_or(Ok(Value::Nil))?)
    }

    fn config(&self) -> AsyncConnectionConfig {
        // The time limit of `ask` is over a whole batch.
        AsyncConnectionConfig::new().set_connection_timeout(Some(self.timeout)).set_response_timeout(None)
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || matches!(error.kind(), ErrorKind::ClusterConnectionNotFound)
}

async fn send(conn: Conn, commands: Vec<Cmd>) -> RedisResult<Vec<RedisResult<Value>>> {
    match conn {
        Conn::One(mut conn) => {
            let mut pipeline = Pipeline::with_capacity(commands.len());
            for command in commands {
                pipeline.add_command(command);
            }
            pipeline.ignore_errors().query_async(&mut conn).await
        }
        // Each command finds its own node.
        Conn::Cluster(conn) => {
            let asked = commands.into_iter().map(|command| {
                let mut conn = conn.clone();
                async move { command.query_async(&mut conn).await }
            });
            Ok(join_all(asked).await)
        }
    }
}

enum Bad {
    File(io::Error),
    Client(RedisError),
}

impl From<RedisError> for Bad {
    fn from(error: RedisError) -> Self {
        Self::Client(error)
    }
}

fn way(settings: &config::Redis) -> Result<Way, Bad> {
    let mut nodes = Vec::new();
    for url in &settings.urls {
        let mut info: ConnectionInfo = url.expose().into_connection_info()?;
        let mut login = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &settings.username {
            login = login.set_username(user);
        }
        if let Some(password) = &settings.password {
            login = login.set_password(password.expose());
        }
        info = info.set_redis_settings(login);
        nodes.push(info);
    }
    let Some(first) = nodes.first().cloned() else {
        return Err(Bad::File(io::Error::other("store.url names no server")));
    };
    let certificates = certificates(settings).map_err(Bad::File)?;
    let tls = matches!(first.addr(), ConnectionAddr::TcpTls { .. });
    let client = |info: ConnectionInfo| {
        if tls { Client::build_with_tls(info, certificates.clone()) } else { Client::open(info) }
    };
    Ok(match &settings.topology {
        Topology::Single => Way::One(Box::new(client(first)?)),
        Topology::Cluster => {
            let each = nodes.iter().cloned().map(client).collect::<Result<_, _>>()?;
            let mut cluster = ClusterClientBuilder::new(nodes).connection_timeout(settings.timeout);
            if tls {
                cluster = cluster.certs(certificates.clone());
            }
            Way::Cluster(cluster.build()?, each)
        }
        Topology::Sentinel { master } => {
            let addresses: Vec<_> = nodes.iter().map(|node| node.addr().clone()).collect();
            let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
            let login = first.redis_settings();
            builder = builder.set_client_to_redis_db(login.db());
            if let Some(user) = login.username() {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = login.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if tls {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
            Way::Sentinel(tokio::sync::Mutex::new(builder.build()?))
        }
    })
}

fn certificates(settings: &config::Redis) -> io::Result<TlsCertificates> {
    let read = |path: &Path| {
        fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let client_tls = match &settings.client {
        Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: settings.ca.as_deref().map(read).transpose()? })
}
