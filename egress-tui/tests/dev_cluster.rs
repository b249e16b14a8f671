#![allow(unused, unreachable_pub, missing_docs)]
#[path = "../../tests/src/cluster.rs"]
mod cluster;
mod program {
    include!("../../tests/src/program.rs");
}
mod egress_tests {
    pub use crate::cluster;
    pub use crate::program;
}
mod live {
    include!("../../tests/tests/cluster_live.rs");
}
