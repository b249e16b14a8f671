//! Which cluster, and as whom: as kubectl has it, else as a pod of the cluster.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use thiserror::Error;

/// A client is made anew at most this often.
const RENEW: Duration = Duration::from_secs(5);

/// What the command line says about the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
}

/// Why there is no cluster to ask.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("{place}: {source}")]
    Kubeconfig {
        /// Which.
        place: String,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// In a pod, but without what a ServiceAccount brings.
    #[error("the pod's service account cannot be used: {0}")]
    InCluster(#[from] kube::config::InClusterError),
    /// What the configuration names cannot be used.
    #[error("no client can be made for {place}: {source}")]
    Client {
        /// The cluster.
        place: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

impl Cluster {
    /// There is something to connect to: named on the command line or in `KUBECONFIG`, in `~/.kube/config`, or a pod's account.
    pub fn is_known(&self) -> bool {
        self.is_named() || std::env::var_os("KUBECONFIG").is_some_and(|k| !k.is_empty()) || home().is_some() || in_pod()
    }

    /// The command line names one.
    pub fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// The program runs in a pod, and with that pod's account.
    pub fn is_in_pod(&self) -> bool {
        !self.is_named() && std::env::var_os("KUBECONFIG").is_none_or(|k| k.is_empty()) && home().is_none() && in_pod()
    }

    /// Reads the configuration, and makes a client; nothing is sent yet.
    pub async fn connect(&self) -> Result<(Client, String), ConnectError> {
        let (config, place) = self.config().await?;
        let client = Client::try_from(config)
            .map_err(|source| ConnectError::Client { place: place.clone(), source: Box::new(source) })?;
        Ok((client, place))
    }

    async fn config(&self) -> Result<(Config, String), ConnectError> {
        if self.is_in_pod() {
            let mut config = Config::incluster()?;
            limit(&mut config);
            return Ok((config, "in-cluster".to_owned()));
        }
        let place = self.kubeconfig.as_ref().map_or_else(|| "kubeconfig".to_owned(), |p| p.display().to_string());
        let wrong = |source| ConnectError::Kubeconfig { place: place.clone(), source: Box::new(source) };
        let file = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let file = file.map_err(wrong)?;
        let name = self.context.clone().or_else(|| file.current_context.clone()).unwrap_or_default();
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)?;
        limit(&mut config);
        Ok((config, name))
    }
}

/// Connections that come to nothing are given up soon: whoever looks at the screen wants to know.
fn limit(config: &mut Config) {
    config.connect_timeout = Some(Duration::from_secs(5));
    // A server that says that it is busy is asked again by us, later and later.
    config.default_retry = false;
}

fn home() -> Option<PathBuf> {
    let file = Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    file.is_file().then_some(file)
}

fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        && Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file()
}

/// The client that is in use; another one takes its place when the server does not accept its credentials any more.
pub(super) struct Connection {
    cluster: Cluster,
    now: Mutex<(Client, Instant)>,
}

impl Connection {
    pub(super) fn new(cluster: Cluster, client: Client) -> Self {
        Self { cluster, now: Mutex::new((client, Instant::now())) }
    }

    pub(super) fn client(&self) -> Client {
        self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0.clone()
    }

    /// Reads token, certificate and address again: they may have been rotated.
    pub(super) async fn renew(&self) {
        {
            let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if now.1.elapsed() < RENEW {
                return;
            }
            now.1 = Instant::now();
        }
        if let Ok((client, _)) = self.cluster.connect().await {
            self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner).0 = client;
        }
    }
}
