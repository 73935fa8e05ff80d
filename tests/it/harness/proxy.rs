//! A way to Postgres on which things get lost: replies alone, so that a statement is committed and its reply is lost; or
//! everything, as on a network that swallows packets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_postgres::config::Host;

use super::Database;

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    Lose,
    /// On each connection they are lost from the next COMMIT on.
    LoseCommits,
    /// Everything is lost, both ways, and what a connection has lost once it misses for ever.
    Swallow,
    /// New connections are ended at once.
    Refuse,
}

/// A TCP proxy before Postgres or a server.
pub struct Proxy {
    /// The database through it.
    pub url: String,
    /// The address that it listens on.
    pub address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    /// Counts the cuts; each ends all connections of before.
    cuts: Arc<watch::Sender<u32>>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy before the Postgres of a database.
    pub async fn to(database: &Database) -> Proxy {
        let config: tokio_postgres::Config = database.url().parse().expect("a URL");
        let [Host::Unix(directory)] = config.get_hosts() else { panic!("a unix socket: {:?}", config.get_hosts()) };
        let socket = directory.join(format!(".s.PGSQL.{}", config.get_ports()[0]));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (user, name) = (config.get_user().expect("a user"), config.get_dbname().expect("a database"));
        let proxy = Proxy {
            url: format!("postgres://{user}@{address}/{name}"),
            address,
            mode: Arc::new(watch::Sender::new(Mode::Pass)),
            cuts: Arc::new(watch::Sender::new(0)),
            connections: Arc::default(),
        };
        let (mode, cuts, connections) = (proxy.mode.clone(), proxy.cuts.clone(), proxy.connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                if *mode.borrow() == Mode::Refuse {
                    continue;
                }
                let (mode, mut cut) = (mode.subscribe(), cuts.subscribe());
                let socket = socket.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(client, socket, mode) => {}
                        _cut = cut.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    /// Sets what happens to bytes from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Ends all connections; new ones work.
    pub fn cut(&self) {
        self.cut_to(Mode::Pass);
    }

    /// Ends all connections; with new ones it is like this.
    pub fn cut_to(&self, mode: Mode) {
        self.set(mode);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that were asked for so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Carries one connection until one side ends it.
async fn carry(client: TcpStream, socket: PathBuf, mode: watch::Receiver<Mode>) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let lost = AtomicBool::new(false);
    let swallowed = AtomicBool::new(false);
    let swallows = || {
        let now = *mode.borrow() == Mode::Swallow;
        swallowed.fetch_or(now, Ordering::Relaxed) || now
    };
    let there = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let commits = buffer[..read].windows(7).any(|window| window == b"COMMIT\0");
            if commits && *mode.borrow() == Mode::LoseCommits {
                lost.store(true, Ordering::Relaxed);
            }
            if swallows() {
                continue;
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let is_lost = swallows() || lost.load(Ordering::Relaxed) || *mode.borrow() == Mode::Lose;
            if !is_lost && to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}
