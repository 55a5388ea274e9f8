// Package docs reads the documentation as a stranger would: it follows every link, applies every manifest
// and runs every command, in a lab with a real API server, the project's manager and its agents.
//
// What enters: every Markdown file of the repository, and the programs of make build and make tools. What
// leaves: a failure for a link or anchor that leads nowhere, a manifest that the API server refuses, a
// command that fails or prints something else, an unknown flag, subcommand or make target, and a
// command in a block that no test runs.
//
// A code block says in its first line what it is:
//
//	```sh                    a script, run in the page's namespace
//	```sh not run: why       not run, though its make targets, subcommands and flags are checked
//	```console               commands after "$ ", each followed by what it prints
//	```yaml                  manifests; without a kind, fields of spec for the page's first ServiceGroup
//	```yaml values           values of the chart, which is rendered and offered with them
//	```yaml not applied: why
//
// Behind sh and console, separated by commas:
//
//	on node1                 in the network of a node, or of "client", which is outside
//	put back afterwards      what it removes, the other pages need: it is installed again
//	until interrupted        a command that does not end: it is interrupted once it has printed what is shown
//
// Words with digits, and suffixes of names that Kubernetes makes up, may differ in what is printed. A page
// names the manifests that its reader has applied already in a line <!-- needs: FILE FILE -->, and what happens
// again and again while a command waits to be interrupted in <!-- meanwhile on node1: SCRIPT -->. Other blocks
// are pictures and output, and no line of them may begin like a command.
//
// Programs that cannot do here what they do elsewhere have stand-ins in testdata/bin, which say what they leave out.
package docs
