package cli

import "github.com/spf13/cobra"

func newCapability(o *Options) *cobra.Command {
	cmd := newGroup("capability", "List, describe, call and make capabilities", "capabilities", "cap")
	cmd.Long = "A capability is one named operation of a provider: its host, its methods and its paths. It is\nwhat a caller names, and the unit of permission. A set is a name for several: a call on it goes to\nthe most specific member that admits its method and path."
	invoke := newInvoke(o, "invoke", "call")
	cmd.AddCommand(newCapabilityList(o), newCapabilityDescribe(o), newCapabilityCreate(o), newCapabilityDelete(o),
		newCapabilityEnable(o), newCapabilityDisable(o), newCapabilityPolicy(o),
		newCapabilityBind(o), newCapabilityUnbind(o), newCapabilityBindings(o),
		invoke, newJSON(o), newMarkdown(o))
	return cmd
}
