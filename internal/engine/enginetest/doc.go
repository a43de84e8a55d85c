// Package enginetest holds what tests need in place of, or beside, a Docker Engine.
//
// Contract, ContainerContract and ImageContract say what an engine does, as tests. They run on real engines,
// started by Start in private namespaces (InNamespaces), and on Fake, so that the fake
// stays honest.
//
// # The fake's policy
//
// Fake keeps containers in memory as an engine does: names are unique, ids count up from
// 1, and requests are refused by the same translation as for a real one. A container has
// a pid and a network namespace inode, from one start to the end of its process; no two
// are alike, but no process or namespace stands behind them. Hints arrive in the order of
// what they tell of, and none is lost unless Mute says so. Nothing takes time unless Hold
// says so.
//
// A workload container runs what testdata/pause is: its words are understood, and a command
// that is another program's path can't be started. Every image has the same users.
//
// Several instances share one fake engine by View. What somebody does behind their back
// with the docker command goes by User. Calls fail as Fail says: before they did anything,
// or after, their answer being lost. Down takes the engine away as a whole.
//
// Its images are of one size and have no layers. It pulls from the registries that Registry
// returns, which are in memory as well, and the images of an archive are named by the
// archive's digest.
//
// String prints the state, one container a line in the order of names, such as
//
//	k8s_POD_web_default_42_0 running exit=0 instance=one
//	k8s_POD_db_default_43_0 exited exit=137 instance=one
//	k8s_app_web_default_42_0 running exit=0 instance=one
//	nginx running exit=0 foreign
//
// and "" when there is nothing: compare it with what should be left.
package enginetest
