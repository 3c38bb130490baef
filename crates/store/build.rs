//! Has the crate built again when a migration is added: the files are embedded, and the compiler watches only those
//! it has already seen.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
