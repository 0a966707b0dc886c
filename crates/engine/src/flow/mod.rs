//! Flows: who talks with whom, and how well.
