//! The generator of meshes: the same seed gives the same mesh, and what it writes is read.

use egress_core::manifest;
use egress_tests::generate;

#[test]
fn a_seed_gives_the_same_mesh_and_calls_each_time() {
    for seed in 1..30 {
        let [first, again] = [(); 2].map(|()| generate::mesh(seed, 10));
        assert_eq!(generate::documents(&first.objects), generate::documents(&again.objects));
        assert_eq!(first.calls, again.calls);
    }
    assert_ne!(generate::mesh(1, 10).calls, generate::mesh(2, 10).calls);
}

#[test]
fn what_is_written_is_read_back_as_it_was_made() {
    for seed in 1..60 {
        let made = generate::mesh(seed, 1);
        let read = manifest::parse("mesh.yaml", &generate::documents(&made.objects));
        let values: Vec<_> = read.objects.iter().map(|o| serde_json::to_value(&o.value).expect("JSON")).collect();
        assert_eq!(values, made.objects, "seed {seed}");
    }
}
