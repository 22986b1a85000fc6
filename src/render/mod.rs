//! From files at one commit to complete manifests.
